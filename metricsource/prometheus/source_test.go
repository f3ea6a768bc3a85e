package prometheus

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/inference-scaler/inference-scaler/metricsource/sourcetest"
)

func TestSource(t *testing.T) { sourcetest.Run(t, openSource) }

// source is a group with a server that scrapes the targets.
type source struct {
	*Group
	*sourcetest.Readings
}

func openSource(t *testing.T, cfg sourcetest.Config) sourcetest.Source {
	s := &source{Readings: &sourcetest.Readings{Timeout: 400 * time.Millisecond}}
	s.Group = serve(t, http.HandlerFunc(s.answer)).Open(Config{
		Address: "http://prometheus", Namespace: "llm", Interval: time.Second, Timeout: s.Timeout,
		Selection: cfg.Selection, Window: cfg.Window, OnRead: func() {},
	})
	s.Statuses = s.Status
	t.Cleanup(s.Close)
	return s
}

func (*source) Label() string { return "pod" }

func (s *source) Set(names ...string) {
	var targets []Target
	for _, name := range names {
		targets = append(targets, Target{Name: name, UID: "uid-" + name, Ready: true, Labels: labels.FromStrings("namespace", "llm", "job", "vllm", "pod", name)})
	}
	s.Group.Set(targets)
}

var podsAsked = regexp.MustCompile(`pod=~"([^"]*)"`)

func (s *source) answer(w http.ResponseWriter, req *http.Request) {
	pods := strings.Split(podsAsked.FindStringSubmatch(req.FormValue("query"))[1], "|")
	all, ok := s.Answers(req.Context(), pods...)
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var elements []string
	for pod, series := range all {
		for _, one := range series {
			// As with honor_labels: false, conflicting labels are renamed.
			metric := []string{`"__name__":"` + one.Name + `"`, `"namespace":"llm"`, `"job":"vllm"`, `"pod":"` + pod + `"`}
			for k, v := range one.Labels {
				if k == "pod" || k == "namespace" || k == "job" {
					k = "exported_" + k
				}
				metric = append(metric, `"`+k+`":"`+v+`"`)
			}
			elements = append(elements, fmt.Sprintf(`{"metric":{%s},"value":[1,"%v"]}`, strings.Join(metric, ","), one.Value))
		}
	}
	_, _ = io.WriteString(w, vectorOf(strings.Join(elements, ",")))
}
