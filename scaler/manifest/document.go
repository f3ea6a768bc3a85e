package manifest

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

// Document is one Kubernetes object.
type Document struct {
	File     string // empty for an object of a cluster
	Kind     string
	Metadata Metadata
	root     *yaml.Node
}

// Metadata is the part of an object's metadata that is read.
type Metadata struct {
	Name, Namespace string
	Labels          map[string]string
	Annotations     map[string]string
	OwnerReferences []struct{ Kind, Name string } `yaml:"ownerReferences"`
}

// Read returns the objects of a YAML or JSON stream. The items of a List become separate
// objects. A document without a kind, such as the values of a chart, is skipped.
//
// The file name is for messages. With an empty one, objects have no lines. An error names the
// file and the line, and comes with the objects before it.
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

// asYAML replaces the escapes of a JSON text that YAML does not have by their characters. These
// are surrogate pairs and slashes. The number of lines does not change. Any other text is
// returned unchanged.
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
	return escape.ReplaceAllFunc(text, func(match []byte) []byte {
		pair := escape.FindSubmatch(match)
		switch {
		case string(match) == `\/`:
			return []byte("/")
		case pair[1] == nil:
			return match
		}
		high, _ := strconv.ParseUint(string(pair[1]), 16, 16)
		low, _ := strconv.ParseUint(string(pair[2]), 16, 16)
		return []byte(string(utf16.DecodeRune(rune(high), rune(low))))
	})
}

// escape matches a surrogate pair or any other escape. It has to match an escaped backslash, or
// the rest of \\ud83d would look like half of a pair.
var escape = regexp.MustCompile(`\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)`)

// maxNested limits Lists within Lists: with an alias, a List can contain itself.
const maxNested = 4

func objects(file string, root *yaml.Node, depth int) ([]*Document, error) {
	if depth > maxNested {
		return nil, fmt.Errorf("too many nested Lists; wanted: at most %d levels", maxNested)
	}
	if root.Kind != yaml.MappingNode {
		return nil, nil
	}
	var head struct {
		Kind     string
		Metadata Metadata
		Items    []yaml.Node
	}
	// A document without a kind is not decoded: the values of a chart have any type.
	if Child(root, "kind") == nil {
		return nil, nil
	}
	if err := root.Decode(&head); err != nil {
		return nil, err
	}
	if head.Items == nil {
		return []*Document{{File: file, Kind: head.Kind, Metadata: head.Metadata, root: root}}, nil
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

// String returns the kind, namespace and name.
func (d *Document) String() string {
	if d.Metadata.Namespace == "" {
		return d.Kind + " " + d.Metadata.Name
	}
	return d.Kind + " " + d.Metadata.Namespace + "/" + d.Metadata.Name
}

// SameNamespace reports whether two objects may be in one namespace. An absent namespace
// matches any, because kubectl fills it in.
func (d *Document) SameNamespace(other *Document) bool {
	return d.Metadata.Namespace == other.Metadata.Namespace || d.Metadata.Namespace == "" || other.Metadata.Namespace == ""
}

// Line returns the line of the value at the path. If the value does not exist, it is the line
// of the last existing part of the path. A step is the key of a mapping (string) or the index
// of a sequence (int).
func (d *Document) Line(path ...any) int {
	if d.File == "" {
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

// entry returns the nodes of a mapping's key and value, or nil.
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

// Child returns the value of a mapping's key, or nil.
func Child(node *yaml.Node, name string) *yaml.Node {
	_, value := entry(node, name)
	return value
}

// errorLine matches one error of a yaml.TypeError.
var errorLine = regexp.MustCompile(`^line (\d+): (.*)$`)

// typeMismatch matches its text, which names a type of Go.
var typeMismatch = regexp.MustCompile("^cannot unmarshal (!!\\w+)(?: (`.*`))? into (.+)$")

// wanted rewrites the text of a type mismatch with the names of YAML types.
func wanted(text string) string {
	m := typeMismatch.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	value, kind := m[2], "a mapping"
	if value == "" {
		value = map[string]string{"!!map": "a mapping", "!!seq": "a list", "!!null": "null"}[m[1]]
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

// Decode reads the object into a struct. It skips and reports values of a wrong type.
func (d *Document) Decode(to any, report func(line int, text string)) {
	err := d.root.Decode(to)
	var mismatch *yaml.TypeError
	if errors.As(err, &mismatch) {
		for _, e := range mismatch.Errors {
			text, line := fmt.Sprint(e), d.root.Line
			if m := errorLine.FindStringSubmatch(text); m != nil {
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
