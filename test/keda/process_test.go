package keda

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is one running inference-scaler.
type process struct {
	// grpc and http are the addresses it says it listens at.
	grpc, http string

	cmd    *exec.Cmd
	log    *processLog
	exited chan struct{}
}

// startScaler runs the binary with its gRPC listener at address and returns once
// both listeners are up. It is stopped when the test ends; if the test failed,
// what it knew of its triggers and what it logged are printed.
func startScaler(t *testing.T, address string) *process {
	t.Helper()
	p := &process{log: &processLog{ready: make(chan struct{})}, exited: make(chan struct{})}
	p.cmd = exec.Command(binary, "serve", "--kubernetes=off",
		"--grpc-address="+address, "--http-address=127.0.0.1:0", "--log-format=json")
	p.cmd.Stderr = p.log
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the exit code is in ProcessState
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("triggers of %s:\n%s", p.grpc, p.get("/api/v1/triggers"))
		}
		p.stop(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.grpc, p.log)
		}
	})

	select {
	case <-p.log.ready:
	case <-p.exited:
		require.FailNow(t, "inference-scaler did not start", "%v\n%s", p.cmd.ProcessState, p.log)
	case <-time.After(patience):
		require.FailNow(t, "inference-scaler says no addresses", "%s", p.log)
	}
	p.grpc, p.http = p.log.address("grpc"), p.log.address("http")
	return p
}

// stop sends the signal, waits for the end, and returns the exit code: 0 after
// a graceful stop, -1 after a kill. Stopping twice does no harm.
func (p *process) stop(t *testing.T, signal os.Signal) int {
	t.Helper()
	_ = p.cmd.Process.Signal(signal) // fails only once it has exited
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
		t.Errorf("inference-scaler was still running %s after %s:\n%s", patience, signal, p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// get returns the body at path of the HTTP listener, or the error: it is for
// reading, not for asserting.
func (p *process) get(path string) string {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://" + p.http + path)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// processLog keeps what a process writes to stderr and picks out its addresses.
type processLog struct {
	ready chan struct{} // closed once both addresses are known

	mu        sync.Mutex
	all       bytes.Buffer
	parsed    int // bytes of all that were read as lines
	addresses map[string]string
}

// Write takes any part of the JSON lines: a line is read once it is complete.
func (l *processLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Write(p)
	for {
		line, _, complete := bytes.Cut(l.all.Bytes()[l.parsed:], []byte("\n"))
		if !complete {
			return len(p), nil
		}
		l.parsed += len(line) + 1
		l.parse(line)
	}
}

func (l *processLog) parse(line []byte) {
	var record struct{ Msg, Listener, Address string }
	if json.Unmarshal(line, &record) != nil || record.Msg != "listening" {
		return
	}
	if l.addresses == nil {
		l.addresses = map[string]string{}
	}
	before := l.addresses["grpc"] != "" && l.addresses["http"] != ""
	l.addresses[record.Listener] = record.Address
	if !before && l.addresses["grpc"] != "" && l.addresses["http"] != "" {
		close(l.ready)
	}
}

func (l *processLog) address(listener string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addresses[listener]
}

func (l *processLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// anyPort lets the kernel choose.
const anyPort = "127.0.0.1:0"

// freeAddress returns a loopback address that can be listened at again and
// again. Its port lies below the range from which the kernel serves port 0 and
// outgoing connections, so no other process takes it between two listeners.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(10000)))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		require.NoError(t, listener.Close())
		return address
	}
	require.FailNow(t, "no free port between 20000 and 30000")
	return ""
}
