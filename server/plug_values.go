package server

import (
	"strings"
	"unicode/utf8"
)

// values are names and values of a query or a form, of which each name may be a path: a[b]=1 is a member of an object,
// a[]=1 an element of a list. This is how the 2024 server's web framework reads them.
type values struct {
	levels map[string][]pair // by the path to the level as it is written, in order; "" is the whole
}

// pair is a name at one level, with its value, or with the level that it leads to.
type pair struct {
	name  string // "" for an element of a list
	value any
	level string // "" for a value
}

func newValues() *values { return &values{levels: map[string][]pair{}} }

// parse adds the pairs of a query or a form. It returns false when one of them is not UTF-8.
func (v *values) parse(text string) bool {
	for part := range strings.SplitSeq(text, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, value = unescapeForm(name), unescapeForm(value)
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return false
		}
		v.add(name, value)
	}
	return true
}

// unescapeForm unescapes a name or a value. What is no escape stays as it is.
func unescapeForm(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b == '+':
			out = append(out, ' ')
		case b == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			out = append(out, b)
		}
	}
	return string(out)
}

func unhex(b byte) int {
	switch {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b >= 'a' && b <= 'f':
		return int(b-'a') + 10
	case b >= 'A' && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

// add adds a pair. When a part of its path has occurred before, the pair becomes a part of the same object or list.
func (v *values) add(name string, value any) {
	open := strings.IndexByte(name, '[')
	if open <= 0 || !strings.HasSuffix(name, "]") {
		v.levels[""] = append(v.levels[""], pair{name: name, value: value})
		return
	}
	levels, names := []string{""}, []string{name[:open]}
	for inner := range strings.SplitSeq(name[open+1:len(name)-1], "][") {
		levels, names = append(levels, name[:open]), append(names, inner)
		open += len(inner) + len("[]")
	}
	last := pair{value: value}
	for i := len(levels) - 1; i >= 0; i-- {
		last.name = names[i]
		known := len(v.levels[levels[i]]) > 0
		v.levels[levels[i]] = append(v.levels[levels[i]], last)
		if known && i > 0 {
			return
		}
		last = pair{level: levels[i]}
	}
}

// object returns the members of the whole. When a name occurs more than once the last one counts.
func (v *values) object() params { return v.members("") }

func (v *values) members(level string) map[string]any {
	members := map[string]any{}
	for _, p := range v.levels[level] {
		if p.name != "" || level == "" {
			members[p.name] = v.value(p)
		}
	}
	return members
}

func (v *values) value(p pair) any {
	if p.level == "" {
		return p.value
	}
	pairs := v.levels[p.level]
	if pairs[len(pairs)-1].name != "" {
		return v.members(p.level)
	}
	list := []any{}
	for _, element := range pairs {
		if element.name == "" {
			list = append(list, v.value(element))
		}
	}
	return list
}
