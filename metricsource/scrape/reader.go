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
	// A filter of more names, or of a longer query string, is not asked for: a
	// set of names is kept in one word, and servers refuse long URLs.
	maxFilterNames  = 64
	maxFilterLength = 4000

	// OpenMetrics is read where it is all there is, and not asked for:
	// prometheus_client sends it to whoever mentions it, and it is the longer one.
	accept = "text/plain;version=0.0.4,*/*;q=0.1"
)

// reading is what one good reading of a target yields.
type reading struct {
	points []metricsource.Point // valid until the next reading
	found  uint64               // the wanted names that it holds: a bit for each that the filter asks for
	idle   bool
}

// reader reads one target: it remembers the target's series, and whether the
// target honours a filter. It is used by one goroutine at a time.
type reader struct {
	target  *target
	filter  filter
	known   uint64 // the wanted names that the target has shown
	full    *http.Request
	partial *http.Request
	scanner exposition.Scanner
	points  []metricsource.Point
	series  map[string]*seen // of the body, by their text there
	present int              // of them, in this round
	round   uint64
	broken  int // answers to the filter, before one was complete
}

// maxBroken is after how many of them the filter is asked for no more.
const maxBroken = 3

// filter is what is known of a target and ?name[]=.
type filter int

const (
	filterUntried filter = iota // the full body first, to know what there is to find
	filterTrusted               // to be tried: every name known so far should be in the filtered body
	filterProven                // they were
	filterRefused               // the target's answer to it is another status, or lacks names that it has
)

// seen is a series of the body, by its text there: resolved once, not per sample.
type seen struct {
	series *metricsource.Series // nil where no query selects it
	role   metricsource.Role
	name   uint64
	ofEng  bool
	round  uint64
}

// read reads the target: by filter where that is trusted, else, or where the
// filtered answer falls short of what the target has shown before, in full.
func (r *reader) read(ctx context.Context) (reading, error) {
	if err := r.prepare(); err != nil {
		return reading{}, err
	}
	if r.partial != nil && (r.filter == filterTrusted || r.filter == filterProven) {
		got, err := r.fetch(ctx, r.partial)
		if err == nil && got.found&r.known == r.known {
			r.known |= got.found
			r.filter = filterProven
			return got, nil
		}
		switch {
		case err == nil, mayBeFilters(err):
		case r.filter == filterProven:
			return reading{}, err
		default: // a server may break for it, or have broken off by chance
			r.filter = filterUntried
			if r.broken++; r.broken == maxBroken {
				r.filter = filterRefused
			}
			if ctx.Err() != nil {
				return reading{}, err
			}
			return r.whole(ctx)
		}
		full, err := r.fetch(ctx, r.full)
		if err == nil && full.found&r.known == r.known {
			r.filter = filterRefused
		} else if err == nil {
			r.known = full.found
		}
		return full, err
	}
	return r.whole(ctx)
}

// whole reads the target in full, and learns what there is to find.
func (r *reader) whole(ctx context.Context) (reading, error) {
	got, err := r.fetch(ctx, r.full)
	if err == nil {
		r.known = got.found
		if r.filter == filterUntried && r.known != 0 {
			r.filter = filterTrusted
		}
	}
	return got, err
}

// mayBeFilters reports whether an error may come from the filter alone.
func mayBeFilters(err error) bool {
	var status *StatusError
	var none *metricsource.NoSeriesError
	return errors.As(err, &status) || errors.As(err, &none) || errors.Is(err, errIncomplete)
}

func (r *reader) prepare() error {
	if r.full != nil {
		return nil
	}
	r.series = map[string]*seen{}
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

// fetch makes one request and reads what the answer holds.
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
	format, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // what it cannot parse is read as text
	// The end of the connection is the end of such a body, or of a server that died in it:
	// a number that is cut would be a smaller one. (That whole lines are missing does not
	// show.) OpenMetrics has an end of its own, and other formats have no series.
	unbounded := resp.ContentLength < 0 && len(resp.TransferEncoding) == 0
	if text := format == "" || format == "text/plain"; text && unbounded && body.Len() > 0 && !bytes.HasSuffix(body.Bytes(), []byte("\n")) {
		return reading{}, errCutLine
	}
	return r.parse(body.Bytes(), format)
}

const openMetricsFormat = "application/openmetrics-text"

// parse takes the wanted series out of a body.
func (r *reader) parse(body []byte, format string) (reading, error) {
	if format == openMetricsFormat && !exposition.Complete(body) {
		return reading{}, errIncomplete
	}
	got, role, engine, err := r.scan(body)
	r.forget()
	if err != nil {
		return reading{}, err
	}
	want := r.target.group.cfg.Selection
	missing := want.Missing(role)
	if len(missing) == 0 {
		return got, nil
	}
	engine = engine || exposition.HasPrefix(body, want.Prefixes()...)
	if got.idle = want.Idle(role, engine); got.idle {
		return got, nil
	}
	if !strings.HasPrefix(format, "text/html") && !strings.HasPrefix(format, "application/json") {
		format = ""
	}
	return got, &metricsource.NoSeriesError{Missing: missing, Format: format}
}

// scan walks the wanted series of a body, and says what part they play together,
// and whether one is the engine's.
func (r *reader) scan(body []byte) (got reading, role metricsource.Role, engine bool, err error) {
	r.round++
	r.present = 0
	r.points = r.points[:0]
	r.scanner.Reset(body, r.target.group.names)
	defer r.scanner.Reset(nil, nil) // the body is another target's next
	for r.scanner.Next() {
		s, ok := r.series[string(r.scanner.Series())]
		if !ok {
			if s, err = r.resolve(r.scanner.Series()); err != nil {
				return got, role, engine, err
			}
		}
		if s.round != r.round {
			s.round = r.round
			r.present++
		}
		if r.present > metricsource.MaxSeries {
			return got, role, engine, metricsource.ErrTooManySeries
		}
		engine = engine || s.ofEng
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

// resolve makes a series of the body known.
func (r *reader) resolve(raw []byte) (*seen, error) {
	ls, err := exposition.ParseLabels(raw)
	if err != nil {
		return nil, err
	}
	want := r.target.group.cfg.Selection
	name := ls.Get("__name__")
	s := &seen{ofEng: want.IsEngineMetric(name)}
	if role, wanted := want.Role(ls); wanted {
		s.role = role
		s.series = r.target.samples.Series(ls)
		s.name = r.target.group.bits[name]
	}
	r.series[string(raw)] = s
	return s, nil
}

// forget drops the series that are gone, once they outnumber those that are not.
func (r *reader) forget() {
	if len(r.series) <= 2*r.present+64 {
		return
	}
	for raw, s := range r.series {
		if s.round != r.round {
			delete(r.series, raw)
		}
	}
}

// nameFilter is the query string that prometheus_client and others filter a body
// by: exact sample names. "" where there are none, or too many.
func nameFilter(names []string) string {
	filter := url.Values{"name[]": names}.Encode()
	if len(names) == 0 || len(names) > maxFilterNames || len(filter) > maxFilterLength {
		return ""
	}
	return filter
}
