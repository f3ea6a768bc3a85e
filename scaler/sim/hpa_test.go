package sim

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var zero = time.Unix(0, 0)

// at is an instant of a test, in seconds.
func at(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }

// free is a behavior that restricts nothing.
func free(tolerance float64) Behavior {
	rules := Rules{Policies: []Policy{{Pods, 1000, 15 * time.Second}}, Tolerance: tolerance}
	return Behavior{Up: rules, Down: rules}
}

func TestHPAArithmetic(t *testing.T) {
	for _, tc := range []struct {
		name          string
		tolerance     float64
		current       int
		value, target int64
		want          int
		reason        string
	}{
		{"rounded up", 0.1, 1, 11_000, 5_000, 3, ReasonAsMeasured},
		{"exact", 0.1, 1, 10_000, 5_000, 2, ReasonAsMeasured},
		{"a thousandth more", 0, 1, 10_001, 5_000, 3, ReasonAsMeasured},
		{"quantised target", 0, 1, 100, 33, 4, ReasonAsMeasured},
		{"at the upper tolerance", 0.1, 10, 55_000, 5_000, 10, ReasonTolerance},
		{"above the upper tolerance", 0.1, 10, 55_001, 5_000, 12, ReasonAsMeasured},
		{"at the lower tolerance", 0.1, 10, 45_000, 5_000, 10, ReasonTolerance},
		{"below the lower tolerance", 0.1, 10, 44_999, 5_000, 9, ReasonAsMeasured},
		{"one pod less is swallowed", 0.1, 19, 90_000, 5_000, 19, ReasonTolerance},
		{"and is not by the value that avoids it", 0.1, 19, 85_499, 5_000, 18, ReasonAsMeasured},
		{"nothing swallowed without tolerance", 0, 19, 90_000, 5_000, 18, ReasonAsMeasured},
		{"nothing to do", 0.1, 10, 0, 5_000, 1, ReasonTooFew},
		{"more than there may be", 0.1, 10, 1_000_000, 5_000, 20, ReasonTooMany},
		{"more than an int32 holds", 0.1, 10, math.MaxInt64, 1, 20, ReasonTooMany},
		{"already too many", 0.1, 30, 0, 5_000, 20, ReasonTooMany},
		{"asleep", 0.1, 0, 100_000, 5_000, 0, ReasonDisabled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &HPA{Behavior: free(tc.tolerance), Min: 1, Max: 20}
			got, reason := h.Sync(at(0), tc.current, tc.value, tc.target)
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.reason, reason)
		})
	}
	h := &HPA{Behavior: free(0.1), Min: 3, Max: 20}
	got, reason := h.Sync(at(0), 2, 0, 5_000)
	require.Equal(t, 3, got)
	require.Equal(t, ReasonTooFew, reason)
}

func TestHPATolerancePerDirection(t *testing.T) {
	b := free(0)
	b.Down.Tolerance = 0.5
	h := &HPA{Behavior: b, Min: 1, Max: 20}
	got, _ := h.Sync(at(0), 10, 51_000, 5_000)
	require.Equal(t, 11, got)
	got, reason := h.Sync(at(15), 10, 25_000, 5_000)
	require.Equal(t, 10, got)
	require.Equal(t, ReasonTolerance, reason)
}

func TestHPAStabilization(t *testing.T) {
	for _, tc := range []struct {
		name              string
		up, down          time.Duration
		before            []recommendation
		current, measured int
		want              int
		reason            string
	}{
		{
			"highest of the scale-down window", 0, 3 * time.Minute,
			[]recommendation{{at(-120), 4}, {at(-60), 5}},
			100, 3, 5, ReasonDownStabilized,
		},
		{
			"lowest of the scale-up window", 5 * time.Minute, 0,
			[]recommendation{{at(-120), 4}, {at(-60), 5}},
			1, 7, 4, ReasonUpStabilized,
		},
		{
			"the scale-up window does not hold a scale-down", 5 * time.Minute, 0,
			[]recommendation{{at(-120), 1}, {at(-60), 2}},
			100, 3, 3, ReasonAsMeasured,
		},
		{
			"the scale-down window does not hold a scale-up", 0, 5 * time.Minute,
			[]recommendation{{at(-120), 4}, {at(-60), 5}},
			1, 3, 3, ReasonAsMeasured,
		},
		{
			"what is exactly as old as the window has left it", 0, time.Minute,
			[]recommendation{{at(-60), 9}, {at(-59), 6}},
			10, 3, 6, ReasonDownStabilized,
		},
		{
			"obsolete ones do not count", 0, 3 * time.Minute,
			[]recommendation{{at(-600), 10}, {at(-60), 4}, {at(-120), 5}, {at(-540), 9}},
			100, 3, 5, ReasonDownStabilized,
		},
		{
			"between both windows nothing moves", 5 * time.Minute, 5 * time.Minute,
			[]recommendation{{at(-6000), 2}, {at(-180), 1}},
			2, 3, 2, ReasonUpStabilized,
		},
		{
			"down neither", 5 * time.Minute, 5 * time.Minute,
			[]recommendation{{at(-6000), 2}, {at(-180), 3}},
			2, 1, 2, ReasonDownStabilized,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := free(0)
			b.Up.Window, b.Down.Window = tc.up, tc.down
			h := &HPA{Behavior: b, Min: 1, Max: 100, recommendations: tc.before}
			got, reason := h.Sync(at(0), tc.current, int64(tc.measured)*1000, 1000)
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.reason, reason)
		})
	}
}

func TestHPAStartsFromWhatItFinds(t *testing.T) {
	h := &HPA{Behavior: GuideBehavior(0), Min: 1, Max: 20}
	for s := 0.0; s < 300; s += 15 {
		got, reason := h.Sync(at(s), 8, 0, 5_000)
		require.Equal(t, 8, got)
		require.Equal(t, ReasonDownStabilized, reason)
	}
	got, reason := h.Sync(at(300), 8, 0, 5_000)
	require.Equal(t, 7, got)
	require.Equal(t, ReasonDownLimit, reason)
}

func TestHPALimits(t *testing.T) {
	pods, percent := Policy{Pods, 2, time.Minute}, Policy{Percent, 50, time.Minute}
	for _, tc := range []struct {
		name       string
		policies   []Policy
		choose     Select
		current    int
		ups, downs []scaleEvent
		up, down   int
	}{
		{name: "the smaller change", policies: []Policy{pods, percent}, choose: SelectMin, current: 5, up: 7, down: 3},
		{name: "the smaller change, of one", policies: []Policy{pods, percent}, choose: SelectMin, current: 1, up: 2, down: 0},
		{name: "the larger change", policies: []Policy{pods, percent}, current: 10, up: 15, down: 5},
		{name: "no policy counts", policies: []Policy{pods}, choose: SelectDisabled, current: 10, up: 10, down: 10},
		{name: "no policy", current: 10, up: 10, down: 10},
		{name: "a percentage moves by one at least", policies: []Policy{{Percent, 10, time.Minute}}, current: 3, up: 4, down: 2},
		{
			name: "counted from the period's beginning", policies: []Policy{percent}, current: 12,
			ups: []scaleEvent{{at(-30), 4}}, up: 12, down: 4,
		},
		{
			name: "used up", policies: []Policy{pods}, current: 12,
			ups: []scaleEvent{{at(-30), 4}}, up: 12, down: 6,
		},
		{
			name: "a decrease gives the increase room", policies: []Policy{pods}, current: 8,
			downs: []scaleEvent{{at(-30), 3}}, up: 13, down: 8,
		},
		{
			name: "an event as old as the period has left it", policies: []Policy{pods}, current: 8,
			ups: []scaleEvent{{at(-60), 3}}, up: 10, down: 6,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Rules{Policies: tc.policies, Select: tc.choose}
			require.Equal(t, tc.up, r.upLimit(at(0), tc.current, tc.ups, tc.downs))
			require.Equal(t, tc.down, r.downLimit(at(0), tc.current, tc.ups, tc.downs))
		})
	}
}

// follow syncs every 15 s with a constant value, and returns the replicas after each.
func follow(h *HPA, from time.Time, current, syncs int, value int64) (replicas []int) {
	for i := range syncs {
		current, _ = h.Sync(from.Add(time.Duration(i)*15*time.Second), current, value, 5_000)
		replicas = append(replicas, current)
	}
	return replicas
}

func TestGuideBehavior(t *testing.T) {
	h := &HPA{Behavior: GuideBehavior(0), Min: 1, Max: 20}
	require.Equal(t, []int{3, 6, 12, 20, 20}, follow(h, at(0), 1, 5, 100_000))
	// The last recommendation of 20 is of t=60: it holds until t=360, and then
	// one pod goes per minute, the lesser of the two policies.
	require.Equal(t, 20, follow(h, at(75), 20, 19, 0)[18])
	require.Equal(t, []int{19, 19, 19, 19, 18, 18, 18, 18, 17}, follow(h, at(360), 20, 9, 0))
}

func TestDefaultBehavior(t *testing.T) {
	h := &HPA{Behavior: DefaultBehavior(), Min: 1, Max: 100}
	require.Equal(t, []int{5, 10, 20, 20}, follow(h, at(0), 1, 4, 100_000))
	require.Equal(t, 1, follow(h, at(60), 20, 21, 0)[20])
}

// The controller writes a new event over one that its own direction has
// forgotten, although the other direction may still look back on it.
func TestHPAReusesForgottenEvents(t *testing.T) {
	b := GuideBehavior(0)
	b.Down.Window = 0
	h := &HPA{Behavior: b, Min: 1, Max: 20}
	_, _ = h.Sync(at(0), 4, 35_000, 5_000)  // +3
	_, _ = h.Sync(at(40), 7, 45_000, 5_000) // +2, in the place of +3
	require.Equal(t, []scaleEvent{{at(40), 2}}, h.ups)
	got, reason := h.Sync(at(55), 9, 0, 5_000)
	require.Equal(t, 6, got) // 9-2 at the minute's beginning, less one
	require.Equal(t, ReasonDownLimit, reason)
}

func TestMilli(t *testing.T) {
	for v, want := range map[float64]int64{
		0: 0, 5: 5000, 0.0004: 0, 0.0005: 1, 0.0333: 33, 85.499: 85499, 1.0015: 1002,
		-1: 0, math.Inf(1): 0, math.Inf(-1): 0, 1e300: math.MaxInt64,
	} {
		require.Equal(t, want, milli(v), "%v", v)
	}
	require.Zero(t, milli(math.NaN()))
}
