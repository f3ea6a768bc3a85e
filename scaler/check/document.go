package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"
)

// Document is one Kubernetes object, as it was given.
type Document struct {
	file string
	root *yaml.Node
	meta metadata
	kind string
}

type metadata struct {
	Name, Namespace string
	Labels          map[string]string
	Annotations     map[string]string
	OwnerReferences []struct{ Kind, Name string } `yaml:"ownerReferences"`
}

// Read returns the objects of a YAML or JSON stream, those of a List one by one.
// What has no kind, such as the values of a chart, is none. The file is what
// findings call it, empty for what has no lines; the error names it, and the line.
// Beside an error are the objects that stand before it.
func Read(file string, r io.Reader) ([]*Document, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var all []*Document
	dec := yaml.NewDecoder(bytes.NewReader(asYAML(text)))
	for {
		var node yaml.Node
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, fmt.Errorf("%s: %w", file, err)
		}
		if len(node.Content) == 0 {
			continue
		}
		found, err := objects(file, node.Content[0], 0)
		if err != nil {
			return all, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, found...)
	}
}

// asYAML writes a JSON text's escapes that YAML has not, or its reader does not know, as
// what they stand for: halves of a character, and slashes. Lines stay as they are.
func asYAML(text []byte) []byte {
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		err := dec.Decode(new(json.RawMessage))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return text
		}
	}
	return escape.ReplaceAllFunc(text, func(found []byte) []byte {
		pair := escape.FindSubmatch(found)
		switch {
		case string(found) == `\/`:
			return []byte("/")
		case pair[1] == nil:
			return found
		}
		high, _ := strconv.ParseUint(string(pair[1]), 16, 16)
		low, _ := strconv.ParseUint(string(pair[2]), 16, 16)
		return []byte(string(utf16.DecodeRune(rune(high), rune(low))))
	})
}

// escape is a pair, or any other escape: a backslash before another begins none.
var escape = regexp.MustCompile(`\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)`)

// maxNested is how deep a List may hold Lists: it may hold itself, by an alias.
const maxNested = 4

func objects(file string, root *yaml.Node, depth int) ([]*Document, error) {
	if depth > maxNested {
		return nil, errors.New("a List within Lists within Lists")
	}
	if root.Kind != yaml.MappingNode {
		return nil, nil
	}
	var head struct {
		Kind     string
		Metadata metadata
		Items    []yaml.Node
	}
	// A list of other things has items too, and values of a chart may be of any shape.
	if child(root, "kind") == nil {
		return nil, nil
	}
	if err := root.Decode(&head); err != nil {
		return nil, err
	}
	if head.Items == nil {
		return []*Document{{file: file, root: root, meta: head.Metadata, kind: head.Kind}}, nil
	}
	var all []*Document
	for i := range head.Items {
		found, err := objects(file, &head.Items[i], depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (d *Document) String() string {
	if d.meta.Namespace == "" {
		return d.kind + " " + d.meta.Name
	}
	return d.kind + " " + d.meta.Namespace + "/" + d.meta.Name
}

// with reports whether the two are of one namespace, as far as they say: what
// applies them may fill it in.
func (d *Document) with(other *Document) bool {
	return d.meta.Namespace == other.meta.Namespace || d.meta.Namespace == "" || other.meta.Namespace == ""
}

// line is where the path leads, or as far as there is anything: keys of mappings
// as strings, indices of sequences as ints.
func (d *Document) line(path ...any) int {
	if d.file == "" {
		return 0
	}
	node, line := d.root, d.root.Line
	for _, step := range path {
		switch step := step.(type) {
		case string:
			key, value := entry(node, step)
			if key == nil {
				return line
			}
			node, line = value, key.Line
		case int:
			if node.Kind != yaml.SequenceNode || step >= len(node.Content) {
				return line
			}
			node = node.Content[step]
			line = node.Line
		}
	}
	return line
}

// entry returns a mapping's key and value, nil where there is none.
func entry(node *yaml.Node, name string) (key, value *yaml.Node) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}

func child(node *yaml.Node, name string) *yaml.Node {
	_, value := entry(node, name)
	return value
}

// mistyped is one line of what yaml says of values of the wrong type.
var mistyped = regexp.MustCompile(`^line (\d+): (.*)$`)

// unfit is what yaml says of such a value, in words of Go.
var unfit = regexp.MustCompile("^cannot unmarshal (!!\\w+)(?: (`.*`))? into (.+)$")

// wanted says it in words of YAML.
func wanted(text string) string {
	m := unfit.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	value, kind := m[2], "a mapping"
	if value == "" {
		value = map[string]string{"!!map": "a mapping", "!!seq": "a list", "!!null": "nothing"}[m[1]]
	}
	switch into := strings.TrimLeft(m[3], "*"); {
	case strings.HasPrefix(into, "[]"):
		kind = "a list"
	case strings.HasPrefix(into, "int"), strings.HasPrefix(into, "uint"):
		kind = "a whole number"
	case strings.HasPrefix(into, "float"):
		kind = "a number"
	case into == "bool":
		kind = "true or false"
	case into == "string":
		kind = "a string"
	}
	return fmt.Sprintf("%s; wanted: %s", value, kind)
}

// decode reads the object; values of a wrong type are left out, and reported.
func (d *Document) decode(to any, report func(line int, text string)) {
	err := d.root.Decode(to)
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) {
		for _, e := range wrong.Errors {
			text, line := fmt.Sprint(e), d.root.Line
			if m := mistyped.FindStringSubmatch(text); m != nil {
				line, _ = strconv.Atoi(m[1])
				text = m[2]
			}
			report(line, wanted(text))
		}
		return
	}
	if err != nil {
		report(d.root.Line, err.Error())
	}
}
