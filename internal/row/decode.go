package row

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/sequin-go/sequin/internal/jscan"
)

// maxLearned is how often a Plan takes over another order of the members. A table changes its columns a few times while a
// program runs. Without a limit, a type that is used for several tables would learn with every row.
const maxLearned = 16

// Decoder decodes one row. It must not be copied, or be used by several goroutines.
type Decoder struct {
	plan *Plan
	into reflect.Value
	text string // what the Scanner reads
	used bool   // a row was decoded
	fits bool   // so far

	strings int // how many bytes the strings have
}

// Reset makes the zero Decoder decode a row within text, into a value that can be set and is the zero value. If plan is nil, it
// decodes nothing.
func (d *Decoder) Reset(plan *Plan, into reflect.Value, text string) {
	d.plan, d.into, d.text = plan, into, text
}

// Fits reports whether the value is what encoding/json would have decoded. Otherwise encoding/json has to decode the row, into
// another value.
func (d *Decoder) Fits() bool { return d.fits }

// Decode consumes the next value of s, which reads the text of the Decoder. A second row replaces the first one.
func (d *Decoder) Decode(s *jscan.Scanner) {
	if d.plan == nil {
		s.Skip()
		return
	}
	if d.used {
		d.into.SetZero()
	}
	d.used, d.fits, d.strings = true, true, 0
	switch s.Kind() {
	case jscan.Object:
		d.object(s)
		d.share()
	case jscan.Null:
		s.Skip()
	default:
		d.skip(s)
	}
}

// skip consumes a value that does not fit.
func (d *Decoder) skip(s *jscan.Scanner) {
	d.fits = false
	s.Skip()
}

// object reads the members. It first expects each where it was in an earlier row, because looking up its name takes several
// times as long.
func (d *Decoder) object(s *jscan.Scanner) {
	var order []member
	if known := d.plan.order.Load(); known != nil {
		order = *known
	}
	from, next, surprised := s.Mark(), 0, false
	s.Object()
	for {
		if next < len(order) && s.Member(order[next].written) {
			d.member(s, order[next].field)
			next++
			continue
		}
		key, ok := s.Key()
		if !ok {
			break
		}
		surprised = true
		i := d.plan.find(key)
		if i != unknown {
			next = behind(order, i, next)
		}
		d.member(s, i)
	}
	if surprised && s.Err() == nil && d.plan.learned.Add(1) <= maxLearned {
		d.plan.learn(d.text[from:s.Mark()])
	}
}

// behind returns the index of the member that follows a field in an order, or otherwise if the order does not have the field.
func behind(order []member, field, otherwise int) int {
	for i := range order {
		if order[i].field == field {
			return i + 1
		}
	}
	return otherwise
}

// learn keeps the order of the members of a row.
func (p *Plan) learn(row string) {
	var s jscan.Scanner
	s.ResetString(row)
	var order []member
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		if !s.Copied(key) { // it has no escapes
			order = append(order, member{`"` + string(key) + `":`, p.find(key)})
		}
		s.Skip()
	}
	p.order.Store(&order)
}

// find returns the index of the field with that name, as encoding/json finds it, or unknown.
func (p *Plan) find(name []byte) int {
	if i, ok := p.byName[string(name)]; ok {
		return i
	}
	for i := range p.fields {
		if bytes.EqualFold(name, []byte(p.fields[i].name)) {
			return i
		}
	}
	return unknown
}

// at returns the value of a field.
func (d *Decoder) at(f *field) reflect.Value {
	if len(f.index) == 1 {
		return d.into.Field(f.index[0])
	}
	return d.into.FieldByIndex(f.index)
}

// member reads the value of a member into a field.
func (d *Decoder) member(s *jscan.Scanner, i int) {
	if i == unknown {
		s.Skip()
		return
	}
	f := &d.plan.fields[i]
	v, k := d.at(f), f.kind
	if k == other {
		d.other(s, v)
		return
	}
	if s.Kind() == jscan.Null {
		switch {
		case f.pointer:
			v.SetZero()
		case k == raw:
			v.SetBytes([]byte("null"))
		}
		s.Skip()
		return
	}
	if f.pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	switch k {
	case text:
		d.string(s, v)
	case boolean:
		d.bool(s, v)
	case moment:
		d.time(s, v)
	case raw:
		v.SetBytes(bytes.Clone(s.Raw()))
	default:
		d.number(s, v, k)
	}
}

// other has encoding/json decode a value. It gets a copy: an UnmarshalJSON of the program that writes to its input must not
// write to the text, which is a string and may be in memory that cannot be written.
func (d *Decoder) other(s *jscan.Scanner, v reflect.Value) {
	value := s.Raw()
	if s.Err() == nil && json.Unmarshal(bytes.Clone(value), v.Addr().Interface()) != nil {
		d.fits = false
	}
}

func (d *Decoder) string(s *jscan.Scanner, v reflect.Value) {
	if s.Kind() != jscan.String {
		d.skip(s)
		return
	}
	from := s.Mark() + 1 // behind the quote
	value := s.String()
	d.strings += len(value)
	if s.Copied(value) {
		v.SetString(string(value))
		return
	}
	v.SetString(d.text[from : from+len(value)])
}

func (d *Decoder) bool(s *jscan.Scanner, v reflect.Value) {
	if s.Kind() != jscan.Bool {
		d.skip(s)
		return
	}
	v.SetBool(s.Bool())
}

func (d *Decoder) time(s *jscan.Scanner, v reflect.Value) {
	value := s.Raw()
	if s.Err() == nil && v.Addr().Interface().(*time.Time).UnmarshalJSON(value) != nil {
		d.fits = false
	}
}

func (d *Decoder) number(s *jscan.Scanner, v reflect.Value, k kind) {
	if k == integer {
		if value, ok := s.Digits(); ok {
			d.integer(v, value, nil)
			return
		}
	}
	if s.Kind() != jscan.Number {
		d.skip(s)
		return
	}
	from := s.Mark()
	written := d.text[from : from+len(s.Raw())]
	switch k {
	case integer:
		value, err := strconv.ParseInt(written, 10, 64)
		d.integer(v, value, err)
	case unsigned:
		value, err := strconv.ParseUint(written, 10, 64)
		d.fits = d.fits && err == nil && !v.OverflowUint(value)
		v.SetUint(value)
	case float:
		value, err := strconv.ParseFloat(written, v.Type().Bits())
		d.fits = d.fits && err == nil && !v.OverflowFloat(value)
		v.SetFloat(value)
	}
}

func (d *Decoder) integer(v reflect.Value, value int64, err error) {
	d.fits = d.fits && err == nil && !v.OverflowInt(value)
	v.SetInt(value)
}

// share copies the strings of the row into one allocation, so that a program that keeps the row does not keep the text. If
// they are more than half of the text, they remain parts of it.
func (d *Decoder) share() {
	if d.strings == 0 || 2*d.strings > len(d.text) {
		return
	}
	var b strings.Builder
	b.Grow(d.strings)
	for _, i := range d.plan.texts {
		f := &d.plan.fields[i]
		v := d.at(f)
		if f.pointer {
			if v.IsNil() {
				continue
			}
			v = v.Elem()
		}
		from := b.Len()
		b.WriteString(v.String())
		v.SetString(b.String()[from:]) // what is written behind it leaves it as it is
	}
}
