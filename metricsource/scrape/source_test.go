package scrape

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/sourcetest"
)

func TestSource(t *testing.T) { sourcetest.Run(t, openSource) }

// source scrapes its targets over the in-memory network.
type source struct {
	*Group
	*sourcetest.Readings
	net *network
}

func openSource(t *testing.T, cfg sourcetest.Config) sourcetest.Source {
	n := newNetwork()
	scraper := New(Options{Dial: n.dial})
	group := scraper.Open(Config{
		Interval: time.Second, Timeout: 400 * time.Millisecond, Selection: cfg.Selection, Window: cfg.Window, OnRead: func() {},
	})
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = scraper.Run(ctx)
	}()
	t.Cleanup(func() {
		group.Close()
		cancel()
		<-stopped
		n.close()
		require.Zero(t, n.open(), "connections left")
	})
	return &source{group, &sourcetest.Readings{Timeout: 400 * time.Millisecond, Statuses: group.Status}, n}
}

func (*source) Label() string { return "pod" }

func (s *source) Set(names ...string) {
	var targets []Target
	for _, name := range names {
		s.net.serve(name, func(w http.ResponseWriter, req *http.Request) { s.answer(w, req, name) })
		target := pod(name)
		target.Labels = labels.FromStrings("namespace", "llm", "job", "vllm", "pod", name)
		targets = append(targets, target)
	}
	s.Group.Set(targets)
}

func (s *source) answer(w http.ResponseWriter, req *http.Request, name string) {
	all, ok := s.Answers(req.Context(), name)
	series, answered := all[name]
	switch {
	case !ok:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case !answered:
		<-req.Context().Done()
		return
	}
	w.Header().Set("Content-Type", textFormat)
	var b strings.Builder
	for _, one := range series {
		var ls []string
		for k, v := range one.Labels {
			ls = append(ls, k+`="`+v+`"`)
		}
		fmt.Fprintf(&b, "%s{%s} %v\n", one.Name, strings.Join(ls, ","), one.Value)
	}
	_, _ = w.Write([]byte(b.String()))
}
