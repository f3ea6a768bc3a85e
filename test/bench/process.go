package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long something may take to come about on a busy machine.
const patience = 2 * time.Minute

// process is a child, with what the system accounts for it.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
}

// start runs a command that goes on until stop.
func (b *bench) start(name string, env []string, path string, args ...string) (*process, error) {
	p := &process{name: name, log: &tail{}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(b, path, args...)
	p.cmd.Dir = b.dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended, ProcessState says
	}()
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// until polls what is to come about; the error of a process that ended has its log.
func (p *process) until(ctx context.Context, what string, true func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := true()
		if ok {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%v):\n%s", p.name, p.cmd.ProcessState, p.log)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s: not yet: %s\n%s", p.name, what, p.log), err)
		}
	}
}

// logged waits for the value of key in a log line that has all the words.
func (p *process) logged(ctx context.Context, key string, words ...string) (value string, err error) {
	err = p.until(ctx, strings.Join(words, " "), func() (bool, error) {
		lines := bufio.NewScanner(strings.NewReader(p.log.String()))
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			has := map[string]bool{}
			for _, f := range fields {
				has[f] = true
				if v, ok := strings.CutPrefix(f, key+"="); ok {
					value = v
				}
			}
			all := true
			for _, w := range words {
				all = all && has[w]
			}
			if all && value != "" {
				return true, nil
			}
		}
		return false, nil
	})
	return value, err
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	if over := len(t.text) - 64<<10; over > 0 {
		t.text = append([]byte(nil), t.text[over:]...)
	}
	return len(text), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// usage is what a process has taken so far.
type usage struct {
	at  time.Time
	cpu time.Duration // user and system, of all its threads, those that have ended too
	rss int64         // bytes, now
}

// tick is the unit of the times in /proc, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// proc reads a file of the process in /proc.
func (p *process) proc(file string) string {
	return fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file)
}

func (p *process) usage() (usage, error) {
	u := usage{at: time.Now()}
	stat, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return u, err
	}
	// Its name is in brackets and may hold anything; then the fields begin with the third.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, at := range []int{14, 15} { // utime, stime
		ticks, err := strconv.ParseInt(fields[at-3], 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(ticks) * tick
	}
	u.rss, err = p.memory()
	return u, err
}

func (p *process) memory() (rss int64, err error) {
	text, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// descriptors counts what a process has open.
func (p *process) descriptors() (int, error) {
	open, err := os.ReadDir(p.proc("fd"))
	return len(open), err
}

// cost is what a process takes over some time.
type cost struct {
	cores float64
	rss   int64
}

// over measures what the process takes from now on for so long.
func (p *process) over(ctx context.Context, d time.Duration) (cost, error) {
	before, err := p.usage()
	if err != nil {
		return cost{}, err
	}
	if err := sleep(ctx, d); err != nil {
		return cost{}, err
	}
	after, err := p.usage()
	return cost{float64(after.cpu-before.cpu) / float64(after.at.Sub(before.at)), after.rss}, err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func mib(bytes int64) string     { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }
func cores(c float64) string     { return fmt.Sprintf("%.3f cores", c) }
func kib(bytes float64) string   { return fmt.Sprintf("%.1f KiB", bytes/(1<<10)) }
func rate(perSec float64) string { return fmt.Sprintf("%.0f/s", perSec) }
