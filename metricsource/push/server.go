package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	demandv1 "github.com/inference-scaler/inference-scaler/proto/demand/v1"
)

const (
	// MaxMessage bounds one report on the wire, in bytes.
	MaxMessage = 256 << 10
	// relayedBy is the header of a stream of another replica. Its reports are not forwarded.
	relayedBy = "demand-relayed"

	wantedCredentials = "wanted: a bearer token that this scaler knows, or a client certificate"
)

// Server accepts reports over gRPC and HTTP.
type Server struct {
	demandv1.UnimplementedDemandServiceServer
	store  *Store
	tokens *Tokens
}

// NewServer returns a server. A caller needs one of the tokens, which may be nil, or a
// client certificate that the listener has verified: with that it may report for every
// namespace.
func NewServer(store *Store, tokens *Tokens) *Server { return &Server{store: store, tokens: tokens} }

// Register adds demand.v1 to a gRPC server.
func (s *Server) Register(to grpc.ServiceRegistrar) { demandv1.RegisterDemandServiceServer(to, s) }

// Report implements demand.v1.
func (s *Server) Report(stream grpc.BidiStreamingServer[demandv1.ReportRequest, demandv1.ReportResponse]) error {
	if _, err := s.caller(stream.Context()); err != nil {
		return err // before anything is read
	}
	from := fromReporter
	if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get(relayedBy)) > 0 {
		from = fromPeer
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		// Checked for each report: a token may be revoked.
		namespaces, err := s.caller(stream.Context())
		if err != nil {
			return err
		}
		if err := stream.Send(response(req, s.store.accept(req, namespaces, from))); err != nil {
			return err
		}
	}
}

func response(req *demandv1.ReportRequest, err error) *demandv1.ReportResponse {
	out := &demandv1.ReportResponse{Sequence: req.GetSequence(), Outcome: outcomeOf(err)}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

// allowed returns the namespaces that a caller may report for; nil if it is unauthenticated.
func (s *Server) allowed(authorization string, certified bool) []string {
	if certified {
		return []string{everywhere}
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if s.tokens == nil || !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	return s.tokens.namespaces(strings.TrimSpace(token))
}

// caller returns the namespaces that the caller of an RPC may report for.
func (s *Server) caller(ctx context.Context) ([]string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return s.callerOf(ctx, md)
}

func (s *Server) callerOf(ctx context.Context, md metadata.MD) ([]string, error) {
	namespaces := s.allowed(strings.Join(md.Get("authorization"), ""), certified(ctx))
	if namespaces == nil {
		return nil, status.Error(codes.Unauthenticated, wantedCredentials)
	}
	return namespaces, nil
}

// httpCaller returns the namespaces of the caller of a request; false where it has refused it.
func (s *Server) httpCaller(w http.ResponseWriter, r *http.Request) ([]string, bool) {
	namespaces := s.allowed(r.Header.Get("Authorization"), r.TLS != nil && len(r.TLS.VerifiedChains) > 0)
	if namespaces == nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, wantedCredentials)
	}
	return namespaces, namespaces != nil
}

// certified reports whether the caller has a certificate of the listener's CA.
func certified(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	return ok && len(info.State.VerifiedChains) > 0
}

// statuses maps outcomes to HTTP statuses.
var statuses = map[demandv1.Outcome]int{
	demandv1.Outcome_OUTCOME_TAKEN:     http.StatusOK,
	demandv1.Outcome_OUTCOME_STALE:     http.StatusConflict,
	demandv1.Outcome_OUTCOME_INVALID:   http.StatusBadRequest,
	demandv1.Outcome_OUTCOME_FORBIDDEN: http.StatusForbidden,
	demandv1.Outcome_OUTCOME_EXHAUSTED: http.StatusTooManyRequests,
}

// ServeHTTP accepts one report as JSON: a demand.v1 ReportRequest in protobuf's mapping. The
// response is a ReportResponse.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	namespaces, ok := s.httpCaller(w, r)
	if !ok {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxMessage))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a report of more than %d bytes", MaxMessage))
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	req := &demandv1.ReportRequest{}
	if err := protojson.Unmarshal(body, req); err != nil {
		refuse(w, http.StatusBadRequest, "wanted: a demand.v1 ReportRequest as JSON: "+clip(err.Error()))
		return
	}
	out := response(req, s.store.accept(req, namespaces, fromReporter))
	reply, err := protojson.Marshal(out)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "internal error")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statuses[out.GetOutcome()])
	_, _ = w.Write(append(reply, '\n')) //nolint:gosec // JSON, not HTML; an error: the client is gone
}

func refuse(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text})
}
