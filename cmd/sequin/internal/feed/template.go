package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode/utf8"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/internal/jscan"
)

// KeyTemplate returns a function that sends each line as it is, under the key that the template makes of its JSON. The syntax
// is that of text/template. A field that is missing refuses the line.
func KeyTemplate(text string) (func(line []byte) (sequin.Message, error), error) {
	t, err := template.New("key").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}
	parts, simple := partsOf(t.Root)
	return func(line []byte) (sequin.Message, error) {
		if !utf8.Valid(line) {
			return sequin.Message{}, errNotUTF8
		}
		if simple {
			if key, ok := join(parts, line); ok {
				return sequin.Message{Key: key, Data: string(line)}, nil
			}
		}
		key, err := execute(t, line)
		return sequin.Message{Key: key, Data: string(line)}, err
	}, nil
}

// execute makes a key with any template.
func execute(t *template.Template, line []byte) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber() // 10000000 stays what it is
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		return "", fmt.Errorf("not a JSON object: %w", err)
	}
	if decoder.More() {
		return "", errors.New("not one JSON object a line")
	}
	var key strings.Builder
	if err := t.Execute(&key, value); err != nil {
		return "", fmt.Errorf("no key: %w", err)
	}
	return key.String(), nil
}

// part is a piece of a template that has only text and fields.
type part struct {
	text string
	path []string // of a field; nil for text
}

// partsOf returns the pieces of a template. ok is false when it has other things than text and fields, or no
// field. Without them a key is made in a quarter of the time.
func partsOf(list *parse.ListNode) (parts []part, ok bool) {
	for _, node := range list.Nodes {
		switch node := node.(type) {
		case *parse.TextNode:
			parts = append(parts, part{text: string(node.Text)})
		case *parse.ActionNode:
			if len(node.Pipe.Decl) > 0 || len(node.Pipe.Cmds) != 1 || len(node.Pipe.Cmds[0].Args) != 1 {
				return nil, false
			}
			field, ok := node.Pipe.Cmds[0].Args[0].(*parse.FieldNode)
			if !ok {
				return nil, false
			}
			parts = append(parts, part{path: field.Ident})
		default:
			return nil, false
		}
	}
	return parts, slices.ContainsFunc(parts, func(p part) bool { return p.path != nil })
}

// join makes a key of the pieces. ok is false for a line whose key execute makes, or refuses.
func join(parts []part, line []byte) (key string, ok bool) {
	var out []byte
	for _, p := range parts {
		if p.path == nil {
			out = append(out, p.text...)
			continue
		}
		var s jscan.Scanner
		s.Reset(line)
		value, found := find(&s, p.path)
		if s.Done() != nil || !found {
			return "", false
		}
		out = append(out, value...)
	}
	return string(out), true
}

// find consumes an object and returns the value of a field that is a string, a number or a boolean. Of several members with
// one name it takes the last, as encoding/json does; found is false when encoding/json would merge them.
func find(s *jscan.Scanner, path []string) (value string, found bool) {
	if s.Kind() != jscan.Object {
		s.Skip()
		return "", false
	}
	s.Object()
	seen := 0
	for {
		name, ok := s.Key()
		if !ok {
			return value, found && seen == 1
		}
		if string(name) != path[0] {
			s.Skip()
			continue
		}
		seen++
		if len(path) > 1 {
			value, found = find(s, path[1:])
			continue
		}
		switch kind := s.Kind(); kind {
		case jscan.String, jscan.Number, jscan.Bool:
			value, found = text(s), true
		default:
			s.Skip()
			found = false
		}
	}
}
