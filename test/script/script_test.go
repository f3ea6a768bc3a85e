// Package script runs the real binary through scripts: what a person types, and
// what they see. See testdata/*.txtar.
package script

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// patience bounds whatever a script waits for: it is for hangs, not for speed.
const patience = 60 * time.Second

func TestScripts(t *testing.T) {
	look(t, "../..")
	bin := filepath.Join(t.TempDir(), "inference-scaler")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../cmd/inference-scaler").CombinedOutput()
	require.NoError(t, err, string(out))
	examples, err := filepath.Abs("../../examples")
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examples)
			env.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+os.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"expose": expose,
			"start":  start,
			"stop":   stop,
			"metric": metric,
			"get":    get,
		},
	})
}

// look reads the metadata of every file that the binary is built of: go test repeats a
// cached result unless a file that the test itself has read has changed.
func look(t *testing.T, root string) {
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && (filepath.Ext(path) == ".go" || filepath.Base(path) == "go.mod") {
			_, err = os.Stat(path)
		}
		return err
	})
	require.NoError(t, err)
}

// expose VAR FILE serves the file as an inference server's metrics, and sets VAR
// to the server's host:port.
func expose(ts *testscript.TestScript, _ bool, args []string) {
	body := ts.ReadFile(args[1])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, body)
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], strings.TrimPrefix(server.URL, "http://"))
}

type process struct {
	cmd    *exec.Cmd
	exited chan error
}

var running = map[*testscript.TestScript]*process{}

// start ARGS starts inference-scaler with them, waits for its listeners, and sets
// GRPC and HTTP to their addresses.
func start(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.CommandContext(context.Background(), lookPath(ts, "inference-scaler"), append(args, "--log-format=json")...)
	cmd.Env = []string{"HOME=" + ts.Getenv("HOME")}
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	p := &process{cmd: cmd, exited: make(chan error, 1)}
	running[ts] = p
	ts.Defer(func() { _ = cmd.Process.Kill() })

	addresses := make(chan [2]string, 2)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			var line struct{ Msg, Listener, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				addresses <- [2]string{line.Listener, line.Address}
			}
		}
		p.exited <- cmd.Wait()
	}()
	for range 2 {
		select {
		case a := <-addresses:
			ts.Setenv(strings.ToUpper(a[0]), a[1])
		case <-time.After(patience):
			ts.Fatalf("the scaler does not listen")
		}
	}
}

func lookPath(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, name); executable(p) {
			return p
		}
	}
	ts.Fatalf("%s is not on the PATH", name)
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

// stop ends the scaler as Kubernetes does, and checks that it ends well.
func stop(ts *testscript.TestScript, _ bool, _ []string) {
	p := running[ts]
	delete(running, ts)
	ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.exited:
		ts.Check(err)
	case <-time.After(patience):
		ts.Fatalf("the scaler does not stop")
	}
}

// metric NAMESPACE/NAME VALUE KEY=METADATA… asks as KEDA does, until the answer
// is VALUE/TARGET and whether the trigger is active, such as "11/5 true".
func metric(ts *testscript.TestScript, _ bool, args []string) {
	conn, err := grpc.NewClient(ts.Getenv("GRPC"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	ts.Check(err)
	defer conn.Close()
	client := externalscaler.NewExternalScalerClient(conn)
	namespace, name, _ := strings.Cut(args[0], "/")
	ref := &externalscaler.ScaledObjectRef{Namespace: namespace, Name: name, ScalerMetadata: map[string]string{}}
	for _, kv := range args[2:] {
		k, v, _ := strings.Cut(kv, "=")
		ref.ScalerMetadata[k] = v
	}
	got := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if got = ask(client, ref); got == args[1] {
			return
		}
		time.Sleep(20 * time.Millisecond) // the real binary's clock is the real one
	}
	ts.Fatalf("the scaler answers %q; wanted: %q", got, args[1])
}

func ask(client externalscaler.ExternalScalerClient, ref *externalscaler.ScaledObjectRef) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	spec, err := client.GetMetricSpec(ctx, ref)
	if err != nil {
		return err.Error()
	}
	m := spec.GetMetricSpecs()[0]
	reply, err := client.GetMetrics(ctx, &externalscaler.GetMetricsRequest{ScaledObjectRef: ref, MetricName: m.GetMetricName()})
	if err != nil {
		return err.Error()
	}
	active, err := client.IsActive(ctx, ref)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%g/%g %t", reply.GetMetricValues()[0].GetMetricValueFloat(), m.GetTargetSizeFloat(), active.GetResult())
}

// get PATH prints what the scaler's HTTP listener answers, until it answers 200.
func get(ts *testscript.TestScript, _ bool, args []string) {
	last := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		resp, err := http.Get("http://" + ts.Getenv("HTTP") + args[0])
		if err != nil {
			last = err.Error()
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if resp.StatusCode == http.StatusOK {
			fmt.Fprint(ts.Stdout(), string(body))
			return
		}
		last = fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	ts.Fatalf("GET %s: %s", args[0], last)
}
