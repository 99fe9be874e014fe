// Package row decodes the JSON of a row of a table into a struct, in less than a tenth of the time that encoding/json takes.
//
// A Plan says how the members of the JSON become the fields of a type. It is made once for each type, and handles strings,
// booleans, numbers, times, and pointers to them. A field of another type is decoded by encoding/json. What the plan cannot
// handle at all is left to the caller, which decodes the whole row with encoding/json: types that are no structs, structs whose
// names collide, and rows that do not fit the type. So the value, and the error, are those of encoding/json. A fuzz test
// compares them.
//
// A Plan remembers the order in which a row had its members. The package has no other state.
package row

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// kind is how a field is decoded.
type kind uint8

const (
	other kind = iota // by encoding/json
	text
	boolean
	integer
	unsigned
	float
	moment // time.Time
	raw    // json.RawMessage
)

// field is a field of the struct, or of a struct embedded in it.
type field struct {
	name    string // of the member
	index   []int
	kind    kind
	pointer bool // the field is a pointer to a value of that kind
}

// Plan says how rows become values of a type. Several goroutines may use it at once.
type Plan struct {
	fields []field
	byName map[string]int
	texts  []int // the fields of kind text

	// The members of the latest row that had them in an unexpected order. The next row most likely has the same.
	order   atomic.Pointer[[]member]
	learned atomic.Int32
}

// member is a member of a row as it is written: `"name":`.
type member struct {
	written string
	field   int // or unknown
}

// unknown stands for a member that is no field of the type.
const unknown = -1

// NewPlan returns a plan of a type. It is nil if encoding/json has to decode the type.
func NewPlan(t reflect.Type) *Plan {
	p := &Plan{byName: map[string]int{}}
	if t.Kind() != reflect.Struct || decodesItself(t) || !p.add(t, nil) {
		return nil
	}
	return p
}

// decodesItself reports whether encoding/json calls a method of the type.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// add adds the fields of a struct, which is embedded at index. It reports false if encoding/json has to decode the type: it
// has rules for fields with one name, and for embedded pointers, that are not worth a second implementation.
func (p *Plan) add(t reflect.Type, index []int) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if !isName(name) {
			name = ""
		}
		at := append(index[:len(index):len(index)], i)
		switch {
		case tag == "-":
			continue
		case f.Anonymous && (f.Type.Kind() == reflect.Pointer || name != "" && !f.IsExported()):
			return false
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			if !p.add(f.Type, at) {
				return false
			}
			continue
		case !f.IsExported():
			continue
		}
		if name == "" {
			name = f.Name
		}
		if strings.Contains(options, "string") || p.find([]byte(name)) != unknown {
			return false
		}
		p.byName[name] = len(p.fields)
		p.fields = append(p.fields, newField(name, at, f.Type))
		if last := len(p.fields) - 1; p.fields[last].kind == text {
			p.texts = append(p.texts, last)
		}
	}
	return true
}

// isName reports whether encoding/json uses the name of a tag.
func isName(name string) bool {
	for _, r := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return name != ""
}

func newField(name string, index []int, t reflect.Type) field {
	f := field{name: name, index: index, kind: kindOf(t)}
	if t.Kind() == reflect.Pointer && !decodesItself(t) {
		f.kind = kindOf(t.Elem())
		f.pointer = f.kind != other
	}
	return f
}

func kindOf(t reflect.Type) kind {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return moment
	case t == reflect.TypeFor[json.RawMessage]():
		return raw
	case decodesItself(t), t == reflect.TypeFor[json.Number]():
		return other
	}
	switch t.Kind() {
	case reflect.String:
		return text
	case reflect.Bool:
		return boolean
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return integer
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return unsigned
	case reflect.Float32, reflect.Float64:
		return float
	}
	return other
}
