// Package headers packs the headers of a message into one string, checks them, and writes them as JSON. It has no state.
package headers

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/sequin-go/sequin/internal/jscan"
)

// The limits of the headers of one message. They bound what a message costs beside its data.
const (
	MaxCount = 64
	MaxBytes = 16 << 10 // of all names and values together
)

// Packed holds the headers of a message: each name and each value, with a NUL behind it, by ascending name. Equal headers are
// equal strings. "" means none.
type Packed string

// Header is one header. Both parts may share the memory of a request.
type Header struct{ Name, Value []byte }

// Append appends packed headers to dst. It sorts all, and checks them: the error says which rule they break.
func Append(dst []byte, all []Header) ([]byte, error) {
	if len(all) > MaxCount {
		return dst, fmt.Errorf("a message has at most %d, this one has %d", MaxCount, len(all))
	}
	slices.SortFunc(all, func(a, b Header) int { return cmp.Compare(string(a.Name), string(b.Name)) })
	size := 0
	for i, h := range all {
		switch size += len(h.Name) + len(h.Value); {
		case size > MaxBytes:
			return dst, fmt.Errorf("names and values have at most %d bytes together", MaxBytes)
		case !isName(h.Name):
			return dst, fmt.Errorf("a name has letters, digits and `_.-` only, this one is %q", shorten(h.Name))
		case i > 0 && string(h.Name) == string(all[i-1].Name):
			return dst, fmt.Errorf("the name %q is there twice", shorten(h.Name))
		case slices.Contains(h.Value, 0):
			return dst, fmt.Errorf("the value of %q contains a null character", shorten(h.Name))
		}
	}
	for _, h := range all {
		dst = append(append(dst, h.Name...), 0)
		dst = append(append(dst, h.Value...), 0)
	}
	return dst, nil
}

// shorten keeps a long name out of an error.
func shorten(name []byte) []byte { return name[:min(len(name), 64)] }

func isName(name []byte) bool {
	for _, b := range name {
		if !nameByte[b] {
			return false
		}
	}
	return len(name) > 0
}

var nameByte = func() (table [256]bool) {
	for _, b := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-" {
		table[b] = true
	}
	return table
}()

// Check returns an error if p is not what Append appends.
func (p Packed) Check() error {
	var all []Header
	for name, value := range p.All() {
		all = append(all, Header{[]byte(name), []byte(value)})
	}
	again, err := Append(nil, all)
	if err == nil && string(again) != string(p) {
		err = errors.New("headers are not packed as they should be")
	}
	return err
}

// All returns the names and values by ascending name. It ends early where p is not what Append appends.
func (p Packed) All() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for rest := string(p); rest != ""; {
			name, after, _ := strings.Cut(rest, "\x00")
			value, after, ok := strings.Cut(after, "\x00")
			if !ok || !yield(name, value) {
				return
			}
			rest = after
		}
	}
}

// Map returns the headers as a map, nil for none.
func (p Packed) Map() map[string]string {
	if p == "" {
		return nil
	}
	m := map[string]string{}
	for name, value := range p.All() {
		m[name] = value
	}
	return m
}

// AppendJSON appends the headers as a JSON object.
func (p Packed) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	first := true
	for name, value := range p.All() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = jscan.AppendString(dst, name)
		dst = append(dst, ':')
		dst = jscan.AppendString(dst, value)
	}
	return append(dst, '}')
}
