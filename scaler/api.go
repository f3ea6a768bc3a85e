package scaler

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// API serves /api/v1: the present decisions, and why they are what they are.
func (s *Scaler) API() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/triggers", s.serveTriggers)
	mux.HandleFunc("GET /api/v1/why", s.serveWhy)
	return mux
}

// serveTriggers lists all triggers, without their pods, upstreams and queries.
func (s *Scaler) serveTriggers(w http.ResponseWriter, _ *http.Request) {
	all := s.evaluator.Explanations(func(string, string) bool { return true })
	for i := range all {
		all[i].Pods, all[i].Upstream, all[i].Queries = nil, nil, nil
	}
	reply(w, http.StatusOK, all)
}

// serveWhy explains the triggers of one ScaledObject (?namespace=&name=), of a
// namespace, or all.
func (s *Scaler) serveWhy(w http.ResponseWriter, r *http.Request) {
	namespace, name := r.FormValue("namespace"), r.FormValue("name")
	all := s.evaluator.Explanations(func(ns, n string) bool {
		return (namespace == "" || ns == namespace) && (name == "" || n == name)
	})
	if len(all) == 0 && namespace+name != "" {
		reply(w, http.StatusNotFound, map[string]string{
			"error": fmt.Sprintf("no trigger of namespace %q and name %q: KEDA has not called for it, and no ScaledObject declares it", namespace, name),
		})
		return
	}
	reply(w, http.StatusOK, all)
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client has disconnected
}
