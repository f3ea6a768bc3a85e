package exposition

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func TestParseLabels(t *testing.T) {
	for series, want := range map[string]labels.Labels{
		`up`:                             labels.FromStrings("__name__", "up"),
		`up{}`:                           labels.FromStrings("__name__", "up"),
		`up { }`:                         labels.FromStrings("__name__", "up"),
		`a:b{c="d"}`:                     labels.FromStrings("__name__", "a:b", "c", "d"),
		`a{z="1",b="2",}`:                labels.FromStrings("__name__", "a", "b", "2", "z", "1"),
		"a\t{ z\t=\t\"1\" , b=\"2\" , }": labels.FromStrings("__name__", "a", "b", "2", "z", "1"),
		`a{b="",c="d"}`:                  labels.FromStrings("__name__", "a", "c", "d"),
		`a{b="\"\\\n\\n"}`:               labels.FromStrings("__name__", "a", "b", "\"\\\n\\n"),
		`a{b="\d\\d"}`:                   labels.FromStrings("__name__", "a", "b", `\d\d`),
		`a{b="}{,=# "}`:                  labels.FromStrings("__name__", "a", "b", "}{,=# "),
		`a{b="ü"}`:                       labels.FromStrings("__name__", "a", "b", "ü"),
		`{"a.b"}`:                        labels.FromStrings("__name__", "a.b"),
		`{"a.b","c.d"="e",f="g"}`:        labels.FromStrings("__name__", "a.b", "c.d", "e", "f", "g"),
		`{c="d","a\"b"}`:                 labels.FromStrings("__name__", `a"b`, "c", "d"),
		`{a,b="c"}`:                      labels.FromStrings("__name__", "a", "b", "c"),
		`"a.b"{c="d"}`:                   labels.FromStrings("__name__", "a.b", "c", "d"),
		`a{__type__="gauge"}`:            labels.FromStrings("__name__", "a", "__type__", "gauge"),
	} {
		got, err := ParseLabels([]byte(series))
		require.NoError(t, err, series)
		require.Equal(t, want.String(), got.String(), series)
	}
}

func TestParseLabelsRejects(t *testing.T) {
	for series, want := range map[string]string{
		``:                               `no metric name at ""`,
		`{}`:                             `no metric name at "{}"`,
		`{a="b"}`:                        `no metric name at "{a=\"b\"}"`,
		`{""}`:                           `empty metric name at "}"`,
		`""`:                             `empty metric name at "\"\""`,
		`"`:                              `unterminated name at "\""`,
		`1a`:                             `invalid metric name at "1a"`,
		`a.b`:                            `expected '{' after a metric name at ".b"`,
		`a b`:                            `expected '{' after a metric name at "b"`,
		`a{`:                             `unterminated label block at ""`,
		`a{b`:                            `expected '=' after a label name at ""`,
		`a{b}`:                           `second metric name at "}"`,
		`a{"b",c="d"}`:                   `second metric name at "c=\"d\"}"`,
		`{"a","b"}`:                      `second metric name at "}"`,
		`a{b=`:                           `expected a quoted label value at ""`,
		`a{b=c}`:                         `expected a quoted label value at "c}"`,
		`a{b="c}`:                        `unterminated label value at "\"c}"`,
		`a{b="c"`:                        `expected ',' or '}' after a label value at ""`,
		`a{b="c"d="e"}`:                  `expected ',' or '}' after a label value at "d=\"e\"}"`,
		`a{,}`:                           `expected a label name at ",}"`,
		`a{b="c",,}`:                     `expected a label name at ",}"`,
		`a{1="c"}`:                       `expected a label name at "1=\"c\"}"`,
		`a{b:c="d"}`:                     `expected '=' after a label name at ":c=\"d\"}"`,
		`a{b.c="d"}`:                     `expected '=' after a label name at ".c=\"d\"}"`,
		`a{"b`:                           `unterminated name at "\"b"`,
		`a{""="b"}`:                      `empty label name at "}"`,
		`a{__name__="b"}`:                `reserved label name __name__ at "}"`,
		`{"a","__name__"="b"}`:           `reserved label name __name__ at "}"`,
		`a{b="c",b="d"}`:                 `duplicate label name at "a{b=\"c\",b=\"d\"}"`,
		`a{b="",b="d"}`:                  `duplicate label name at "a{b=\"\",b=\"d\"}"`,
		`a{b="c","b"="d"}`:               `duplicate label name at "a{b=\"c\",\"b\"=\"d\"}"`,
		"a{b=\"\xff\"}":                  `invalid UTF-8 at "a{b=\"\xff\"}"`,
		"{\"\xff\"}":                     `invalid UTF-8 at "{\"\xff\"}"`,
		"a{\"\xff\"=\"b\"}":              `invalid UTF-8 at "a{\"\xff\"=\"b\"}"`,
		"a{b=\"\n\"}":                    `newline in a series at "a{b=\"\n\"}"`,
		`a{} `:                           `text after the label block at " "`,
		`a{}{}`:                          `text after the label block at "{}"`,
		strings.Repeat("a", maxSeries+1): `series longer than 16 KiB at "` + strings.Repeat("a", 61) + `…"`,
	} {
		got, err := ParseLabels([]byte(series))
		require.EqualError(t, err, want)
		require.True(t, got.IsEmpty(), series)
	}
}
