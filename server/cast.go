package server

import (
	"encoding/json"
	"strconv"
)

// form reads named values out of params, turning them into the type that a field has, and collects what is wrong with
// them by field.
type form struct {
	params params
	errors map[string][]string
}

func (f *form) reject(field, text string) {
	if f.errors == nil {
		f.errors = map[string][]string{}
	}
	f.errors[field] = append(f.errors[field], text)
}

func (f *form) err() error {
	if f.errors == nil {
		return nil
	}
	return invalid(f.errors)
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

// flag reads a boolean, also one in words; absent or null is false.
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

// positive reads an integer above zero, also one of digits in a string. Absent leaves what it is; null does not, and is
// rejected unless the field may have no value, which is 0 then.
func (f *form) positive(field string, value *int, nullable bool) {
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
	case n <= 0:
		f.reject(field, "must be greater than 0")
	case n > maxInteger:
		f.reject(field, "must be less than or equal to "+strconv.Itoa(maxInteger))
	default:
		*value = int(n)
	}
}

// maxInteger is what the integer columns of Sequin's database hold.
const maxInteger = 1<<31 - 1

// integer reads a JSON number without fraction, or digits in a string.
func integer(v any) (int64, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}
