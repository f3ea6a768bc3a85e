package scrape

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/metricsource/exposition"
)

const (
	// A set of names is stored in 64 bits, and servers reject long URLs. The filter is not
	// used beyond these limits.
	maxFilterNames  = 64
	maxFilterLength = 4000

	// OpenMetrics is supported, but not requested. prometheus_client sends it to each client
	// that accepts it, and it is longer than the text format.
	accept = "text/plain;version=0.0.4,*/*;q=0.1"
)

// reading is the result of one successful scrape.
type reading struct {
	points []metricsource.Point // valid until the next scrape
	found  uint64               // the selected names in the body, as bits of Group.bits
	idle   bool
}

// reader reads one target. It caches the target's series, and detects whether the target
// supports the filter. At most one goroutine uses it at a time.
type reader struct {
	target       *target
	filter       filter
	knownNames   uint64 // selected names that the target is expected to export
	full         *http.Request
	partial      *http.Request // with the filter; nil if a filter is impossible
	scanner      exposition.Scanner
	points       []metricsource.Point
	series       map[string]*cachedSeries // by their text in the body
	inBody       int                      // number of cached series in the present body
	round        uint64                   // counts bodies
	filterErrors int                      // failed filtered requests before the first success
}

// maxFilterErrors is the number of failed requests after which the filter is not used.
const maxFilterErrors = 3

// filter is the state of the detection whether a target supports ?name[]=.
type filter int

const (
	filterUntried     filter = iota // a full body is needed first, for the names to expect
	filterCandidate                 // the next request tries the filter
	filterConfirmed                 // a filtered body contained all expected names
	filterUnsupported               // a filtered request failed, or its body lacked names
)

// cachedSeries is the parsed form of a series in a body.
type cachedSeries struct {
	series *metricsource.Series // nil if no query selects it
	role   metricsource.Role
	name   uint64 // bit of the name in Group.bits
	engine bool   // the name has a prefix of the engine
	round  uint64 // of the last body that contained the series
}

// read scrapes the target. It uses the filter if the target can support it. It requests the
// full body otherwise, and also if the filtered body lacks known names.
func (r *reader) read(ctx context.Context) (reading, error) {
	if err := r.prepare(); err != nil {
		return reading{}, err
	}
	if r.partial != nil && (r.filter == filterCandidate || r.filter == filterConfirmed) {
		got, err := r.fetch(ctx, r.partial)
		if err == nil && got.found&r.knownNames == r.knownNames {
			r.knownNames |= got.found
			r.filter = filterConfirmed
			return got, nil
		}
		switch {
		case err == nil, filterMayCause(err):
		case r.filter == filterConfirmed:
			return reading{}, err
		default: // the filter or an unrelated failure can be the cause
			r.filter = filterUntried
			if r.filterErrors++; r.filterErrors == maxFilterErrors {
				r.filter = filterUnsupported
			}
			if ctx.Err() != nil {
				return reading{}, err
			}
			return r.readFull(ctx)
		}
		full, err := r.fetch(ctx, r.full)
		if err == nil && full.found&r.knownNames == r.knownNames {
			r.filter = filterUnsupported
		} else if err == nil {
			r.knownNames = full.found
		}
		return full, err
	}
	return r.readFull(ctx)
}

// readFull requests the full body and stores its selected names.
func (r *reader) readFull(ctx context.Context) (reading, error) {
	got, err := r.fetch(ctx, r.full)
	if err == nil {
		r.knownNames = got.found
		if r.filter == filterUntried && r.knownNames != 0 {
			r.filter = filterCandidate
		}
	}
	return got, err
}

// filterMayCause reports whether the filter can be the cause of an error.
func filterMayCause(err error) bool {
	var status *StatusError
	var none *metricsource.NoSeriesError
	return errors.As(err, &status) || errors.As(err, &none) || errors.Is(err, errIncomplete)
}

func (r *reader) prepare() error {
	if r.full != nil {
		return nil
	}
	r.series = map[string]*cachedSeries{}
	full, err := http.NewRequestWithContext(context.Background(), http.MethodGet, r.target.spec.URL, nil)
	if err != nil {
		return err
	}
	full.Header = http.Header{
		"Accept":          {accept},
		"Accept-Encoding": {"identity"},
		"User-Agent":      {"inference-scaler"},
	}
	r.full = full
	if filter := r.target.group.filter; filter != "" {
		r.partial = full.Clone(context.Background())
		r.partial.URL.RawQuery = strings.TrimPrefix(full.URL.RawQuery+"&"+filter, "&")
	}
	return nil
}

// fetch sends one request and parses the response.
func (r *reader) fetch(ctx context.Context, req *http.Request) (reading, error) {
	resp, err := r.target.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return reading{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return reading{}, &StatusError{Code: resp.StatusCode, Redirect: resp.StatusCode/100 == 3}
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return reading{}, errEncoded
	}
	body := bodies.Get().(*bytes.Buffer)
	defer free(body)
	group := r.target.group
	err = readBody(ctx, body, resp.Body, group.bodies, group.scraper.bodies)
	group.scraper.metrics.bytes.Add(float64(body.Len()))
	if err != nil {
		return reading{}, err
	}
	format, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // an invalid type means text
	// A body without a length ends with the connection, even if the server crashed. A
	// truncated number would be a wrong value. Missing whole lines cannot be detected.
	// OpenMetrics has an end marker, and other formats contain no series.
	unbounded := resp.ContentLength < 0 && len(resp.TransferEncoding) == 0
	if text := format == "" || format == "text/plain"; text && unbounded && body.Len() > 0 && !bytes.HasSuffix(body.Bytes(), []byte("\n")) {
		return reading{}, errCutLine
	}
	return r.parse(body.Bytes(), format)
}

const openMetricsFormat = "application/openmetrics-text"

// parse returns the selected series of a body.
func (r *reader) parse(body []byte, format string) (reading, error) {
	if format == openMetricsFormat && !exposition.Complete(body) {
		return reading{}, errIncomplete
	}
	got, role, engine, err := r.scan(body)
	r.evict()
	if err != nil {
		return reading{}, err
	}
	selection := r.target.group.cfg.Selection
	missing := selection.Missing(role)
	if len(missing) == 0 {
		return got, nil
	}
	engine = engine || exposition.HasPrefix(body, selection.Prefixes()...)
	if got.idle = selection.Idle(role, engine); got.idle {
		return got, nil
	}
	if !strings.HasPrefix(format, "text/html") && !strings.HasPrefix(format, "application/json") {
		format = ""
	}
	return got, &metricsource.NoSeriesError{Missing: missing, Format: format}
}

// scan returns the selected series of a body and their combined role. engine reports
// whether one of them belongs to the engine.
func (r *reader) scan(body []byte) (got reading, role metricsource.Role, engine bool, err error) {
	r.round++
	r.inBody = 0
	r.points = r.points[:0]
	r.scanner.Reset(body, r.target.group.names)
	defer r.scanner.Reset(nil, nil) // the buffer of the body is reused
	for r.scanner.Next() {
		s, ok := r.series[string(r.scanner.Series())]
		if !ok {
			if s, err = r.resolve(r.scanner.Series()); err != nil {
				return got, role, engine, err
			}
		}
		if s.round != r.round {
			s.round = r.round
			r.inBody++
		}
		if r.inBody > metricsource.MaxSeries {
			return got, role, engine, metricsource.ErrTooManySeries
		}
		engine = engine || s.engine
		if s.series == nil {
			continue
		}
		v := r.scanner.Value()
		got.found |= s.name
		role = role.Join(s.role.At(v))
		r.points = append(r.points, metricsource.Point{Series: s.series, Value: v})
	}
	got.points = r.points
	return got, role, engine, r.scanner.Err()
}

// resolve parses a series of the body and adds it to the cache.
func (r *reader) resolve(raw []byte) (*cachedSeries, error) {
	ls, err := exposition.ParseLabels(raw)
	if err != nil {
		return nil, err
	}
	selection := r.target.group.cfg.Selection
	name := ls.Get("__name__")
	s := &cachedSeries{engine: selection.IsEngineMetric(name)}
	if role, selected := selection.Role(ls); selected {
		s.role = role
		s.series = r.target.samples.Series(ls)
		s.name = r.target.group.bits[name]
	}
	r.series[string(raw)] = s
	return s, nil
}

// evict removes ended series from the cache once they outnumber the present ones.
func (r *reader) evict() {
	if len(r.series) <= 2*r.inBody+64 {
		return
	}
	for raw, s := range r.series {
		if s.round != r.round {
			delete(r.series, raw)
		}
	}
}

// nameFilter returns the query string with exact sample names by which prometheus_client
// and others filter a body. It returns "" if there are no names, or too many.
func nameFilter(names []string) string {
	filter := url.Values{"name[]": names}.Encode()
	if len(names) == 0 || len(names) > maxFilterNames || len(filter) > maxFilterLength {
		return ""
	}
	return filter
}
