package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// template makes keys. It is a sequence of texts and fields.
type template struct {
	parts    []part
	sanitize bool
}

type part struct {
	text, field string // one of them is set
}

func parseTemplate(s string, sanitize bool) (template, error) {
	t := template{sanitize: sanitize}
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "{{"), strings.HasPrefix(s[i:], "}}"):
			text.WriteByte(s[i])
			i++
		case s[i] == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 2 {
				return t, fmt.Errorf("-key %q: a { needs a name and a }; write {{ for a brace", s)
			}
			if text.Len() > 0 {
				t.parts = append(t.parts, part{text: text.String()})
				text.Reset()
			}
			t.parts = append(t.parts, part{field: s[i+1 : i+end]})
			i += end
		case s[i] == '}':
			return t, fmt.Errorf("-key %q: a } without a {; write }} for a brace", s)
		default:
			text.WriteByte(s[i])
		}
	}
	if text.Len() > 0 {
		t.parts = append(t.parts, part{text: text.String()})
	}
	if len(t.parts) == 0 {
		return t, errors.New("-key is empty")
	}
	return t, nil
}

// key makes the key of a record.
func (t template) key(r record) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field == "" {
			b.WriteString(p.text)
			continue
		}
		value, err := p.value(r)
		if err == nil {
			value, err = t.token(value)
		}
		if err != nil {
			return "", fmt.Errorf("{%s}: %w", p.field, err)
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

func (p part) value(r record) (string, error) {
	switch p.field {
	case "line":
		return strconv.FormatInt(r.number, 10), nil
	case "uuid":
		return uuid.NewString(), nil
	}
	return r.field(p.field)
}

// token checks that a value can be part of one token of a key, or replaces the characters that cannot. A dot would end the
// token: with a dot in the name of a customer, a filter on the third token would match something else.
func (t template) token(value string) (string, error) {
	if value == "" {
		return "", errors.New("is empty")
	}
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == '.' || r == '*' || r == '>' }
	if !t.sanitize {
		if i := strings.IndexFunc(value, bad); i >= 0 {
			return "", fmt.Errorf("%q contains %q, which a token must not contain; see -sanitize", value, []rune(value[i:])[0])
		}
		return value, nil
	}
	return strings.Map(func(r rune) rune {
		if bad(r) {
			return '_'
		}
		return r
	}, value), nil
}

// jsonField finds a.b in {"a":{"b":…}}. A field whose name is a.b takes precedence.
func jsonField(object map[string]json.RawMessage, name string) (string, error) {
	raw, ok := object[name]
	if !ok {
		if outer, inner, nested := strings.Cut(name, "."); nested {
			var within map[string]json.RawMessage
			if json.Unmarshal(object[outer], &within) == nil && within != nil {
				return jsonField(within, inner)
			}
		}
		return "", errors.New("is missing")
	}
	switch raw[0] {
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case '{', '[', 'n':
		return "", fmt.Errorf("is %.40s, not a string, a number or a bool", raw)
	}
	return string(raw), nil // unchanged: 1e3 stays 1e3, and a long number keeps its digits
}
