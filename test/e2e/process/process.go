// Package process runs programs in the background, each with its output in a file.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Command is how a program is started.
type Command struct {
	Name string // of its log file, and in errors
	Path string
	Args []string
	Env  []string // beside those of this process
	Log  string   // file that its output is appended to
}

// Process is a program that was started.
type Process struct {
	command  Command
	cmd      *exec.Cmd
	exited   chan struct{}
	stopping atomic.Bool
}

// Start starts the program.
func Start(c Command) (*Process, error) {
	log, err := os.OpenFile(c.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(c.Path, c.Args...) //nolint:noctx // it runs until it is stopped
	p := &Process{command: c, cmd: cmd, exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	err = p.cmd.Start()
	if err := errors.Join(err, log.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.exited)
	}()
	return p, nil
}

// Exited is closed once the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Unexpected is why the process has ended without being stopped; nil while it
// runs, and after a stop.
func (p *Process) Unexpected() error {
	select {
	case <-p.exited:
		if !p.stopping.Load() {
			return fmt.Errorf("%s has ended: %s; its log is %s", p.command.Name, p.cmd.ProcessState, p.command.Log)
		}
	default:
	}
	return nil
}

// Stop asks the process to end, and kills it if it has not after grace. It
// returns how it ended.
func (p *Process) Stop(grace time.Duration) *os.ProcessState {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return p.cmd.ProcessState
	case <-time.After(grace):
		return p.Kill()
	}
}

// Kill ends the process at once, by SIGKILL.
func (p *Process) Kill() *os.ProcessState {
	p.signal(syscall.SIGKILL)
	<-p.exited
	return p.cmd.ProcessState
}

func (p *Process) signal(s os.Signal) {
	p.stopping.Store(true)
	_ = p.cmd.Process.Signal(s) // fails only where it has ended
}

// Usage is what a process has used.
type Usage struct {
	CPU      time.Duration // since its start, user and system
	Resident int64         // now, in bytes
}

// clockTick is the unit of time in /proc/PID/stat: Linux shows hundredths of a
// second to programs, whatever it counts in.
const clockTick = time.Second / 100

// Usage reads /proc.
func (p *Process) Usage() (Usage, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return Usage{}, err
	}
	// The program's name, in parentheses, may hold anything. Behind it come, from
	// the third field on, utime and stime as the 14th and 15th, rss as the 24th.
	rest := string(text[bytes.LastIndexByte(text, ')')+1:])
	fields := strings.Fields(rest)
	if len(fields) < 22 {
		return Usage{}, fmt.Errorf("/proc/%d/stat: %q", p.cmd.Process.Pid, text)
	}
	var numbers [3]int64
	for i, field := range []int{11, 12, 21} {
		if numbers[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			return Usage{}, err
		}
	}
	return Usage{
		CPU:      time.Duration(numbers[0]+numbers[1]) * clockTick,
		Resident: numbers[2] * int64(os.Getpagesize()),
	}, nil
}
