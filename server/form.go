package server

import "strconv"

// form reads params as the fields of a stream or a consumer, and collects what is wrong with them.
type form struct {
	params params
	errors fieldErrors
	first  string // what was wrong first, with its field
}

func (f *form) reject(field, text string) {
	if f.errors == nil {
		f.first = field + " " + text
	}
	f.errors.add(field, text)
}

func (f *form) err() error {
	if f.errors == nil {
		return nil
	}
	return refused(f.first, f.errors)
}

// text reads a required string.
func (f *form) text(field string) string {
	switch v := f.params[field].(type) {
	case nil:
	case string:
		if v != "" {
			return v
		}
	default:
		f.reject(field, "is invalid")
		return ""
	}
	f.reject(field, "can't be blank")
	return ""
}

// flag reads a boolean, or a string that stands for one. An absent one or null is false.
func (f *form) flag(field string) bool {
	switch v := f.params[field]; v {
	case nil, false, "false", "0":
		return false
	case true, "true", "1":
		return true
	default:
		f.reject(field, "is invalid")
		return false
	}
}

// limit reads an integer above zero, or a string of digits, into value. An absent one, and zero, leave value as it is: clients
// send zeros for what their user has not set. Null sets it to 0, and is rejected unless the field is nullable.
func (f *form) limit(field string, value *int, nullable bool) {
	v, given := f.params[field]
	if !given {
		return
	}
	if v == nil {
		*value = 0
		if !nullable {
			f.reject(field, "can't be blank")
		}
		return
	}
	n, ok := integer(v)
	switch {
	case !ok:
		f.reject(field, "is invalid")
	case n < 0:
		f.reject(field, "must be greater than 0")
	case n > maxInteger:
		f.reject(field, "must be less than or equal to "+strconv.Itoa(maxInteger))
	case n > 0:
		*value = int(n)
	}
}

// name reads the name of a stream or a consumer.
func (f *form) name() string {
	name := f.text("name")
	if name == "" {
		return ""
	}
	if text := checkName(name, true); text != "" {
		f.reject("name", text)
	}
	return name
}
