package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// serveEnv makes the process a server that is read: its value is "targets N BODY filter"
// or "targets N BODY whole", with the path of a body, or "constant".
const serveEnv = "BENCH_SERVE"

func serveChild(what string) error {
	words := strings.Fields(what)
	if words[0] == "constant" {
		return serveConstant()
	}
	n, err := strconv.Atoi(words[1])
	if err != nil {
		return err
	}
	body, err := os.ReadFile(words[2])
	if err != nil {
		return err
	}
	s := &servers{body: body, filters: words[3] == "filter"}
	return s.listen(n)
}

// targetAddress is that of the i-th inference server. All of 127/8 is this machine.
func targetAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 77, byte(i / 250), byte(1 + i%250)})
}

// countAddress tells how often all of them were read so far.
var countAddress = netip.AddrFrom4([4]byte{127, 78, 0, 1})

// servers are inference servers that cost next to nothing: what they answer is made once.
type servers struct {
	body    []byte
	filters bool // they heed name[], as Python's client does

	served atomic.Int64
	mu     sync.Mutex
	made   map[string][]byte // by request line
}

// listen serves n addresses at one port, which it says, until the process is stopped.
func (s *servers) listen(n int) error {
	s.made = map[string][]byte{}
	count, err := net.Listen("tcp", netip.AddrPortFrom(countAddress, 0).String())
	if err != nil {
		return err
	}
	port := uint16(count.Addr().(*net.TCPAddr).Port)
	for i := range n {
		l, err := net.Listen("tcp", netip.AddrPortFrom(targetAddress(i), port).String())
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go s.serve(conn)
			}
		}()
	}
	fmt.Printf("listening port=%d\n", port)
	return http.Serve(count, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // it has one caller
		_, _ = fmt.Fprint(w, s.served.Load())
	}))
}

// serve answers one request after the other, whatever their headers say.
func (s *servers) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // nothing is lost
	r := bufio.NewReader(conn)
	for {
		request, err := r.ReadString('\n')
		for line := ""; err == nil && line != "\r\n"; {
			line, err = r.ReadString('\n')
		}
		if err != nil {
			return
		}
		if _, err := conn.Write(s.answer(request)); err != nil {
			return
		}
		s.served.Add(1)
	}
}

func (s *servers) answer(request string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if made := s.made[request]; made != nil {
		return made
	}
	body := s.body
	if target := strings.Fields(request); s.filters && len(target) > 1 {
		if u, err := url.Parse(target[1]); err == nil && len(u.Query()["name[]"]) > 0 {
			body = filtered(body, u.Query()["name[]"])
		}
	}
	made := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %d\r\n\r\n", len(body))
	made = append(made, body...)
	s.made[request] = made
	return made
}

// filtered is the body with these metrics alone.
func filtered(body []byte, names []string) []byte {
	var out []byte
	for line := range bytes.Lines(body) {
		words := strings.Fields(string(line))
		at := 0 // of the name
		if len(words) > 2 && words[0] == "#" {
			at = 2
		}
		if len(words) > at && slices.Contains(names, strings.SplitN(words[at], "{", 2)[0]) {
			out = append(out, line...)
		}
	}
	return out
}

// fleet is such servers in a process of their own.
type fleet struct {
	*process
	n    int
	port string
}

func (b *bench) serve(n int, body, filter string) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := b.start("targets", []string{fmt.Sprintf("%s=targets %d %s %s", serveEnv, n, body, filter)}, self)
	if err != nil {
		return nil, err
	}
	port, err := p.logged(b, "port", "listening")
	if err != nil {
		p.stop()
	}
	return &fleet{p, n, port}, err
}

// addresses are those of the servers from i on, at most n of them.
func (f *fleet) addresses(i, n int) []string {
	var all []string
	for ; i < f.n && len(all) < n; i++ {
		all = append(all, net.JoinHostPort(targetAddress(i).String(), f.port))
	}
	return all
}

// served is how often they were read so far.
func (f *fleet) served(ctx context.Context) (int64, error) {
	text, err := get(ctx, "http://"+net.JoinHostPort(countAddress.String(), f.port))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}
