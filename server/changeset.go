package server

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/internal/store"
)

// changeset reads params as the 2024 server's database library does. What is wrong with the type of a value is told for all
// fields at once; after that comes what is missing, then the name, and then what the database refuses.
type changeset struct {
	params params
	errors fieldErrors
	crash  bool // the database cannot store a value: a 500
}

func (s *changeset) reject(field, text string) { s.errors.add(field, text) }

// given returns a value that is not blank. A text of spaces is blank: it stands for the default.
func (s *changeset) given(field string) (v any, ok bool) {
	v, ok = s.params[field]
	if text, isText := v.(string); isText && strings.TrimLeftFunc(text, unicode.IsSpace) == "" {
		return nil, false
	}
	return v, ok
}

// text reads a required text.
func (s *changeset) text(field string) string {
	v, _ := s.given(field)
	if v == nil {
		s.reject(field, "can't be blank")
		return ""
	}
	text, ok := v.(string)
	if !ok {
		s.reject(field, "is invalid")
	}
	return text
}

// minInteger is the smallest value of the integer columns in Sequin's database.
const minInteger = math.MinInt32

// integer reads an integer into value, and returns whether there is one. A blank text stands for the default. Null becomes
// 0 in a nullable column, and cannot be stored in others.
func (s *changeset) integer(field string, value *int, byDefault int, nullable bool) bool {
	if _, there := s.params[field]; !there {
		return false
	}
	v, given := s.given(field)
	switch {
	case !given:
		*value = byDefault
		return false
	case v == nil:
		*value = 0
		s.crash = s.crash || !nullable
		return false
	}
	n, ok := castInteger(v)
	if !ok {
		s.reject(field, "is invalid")
	}
	s.crash = s.crash || n < minInteger || n > maxInteger
	*value = int(n)
	return ok
}

// castInteger reads an integer, or a text of less than 32 bytes with one. One that no column can store is returned as
// math.MaxInt64.
func castInteger(v any) (int64, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = string(v)
		if isFloat(text) {
			return 0, false
		}
	case string:
		if text = v; len(text) >= 32 {
			return 0, false
		}
	}
	digits := strings.TrimLeft(text, "+-")
	if digits == "" || len(text)-len(digits) > 1 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// choice reads one of several words. A blank one is the first.
func (s *changeset) choice(field string, words ...string) (word string, null bool) {
	v, given := s.given(field)
	word, isText := v.(string)
	switch {
	case !given:
		return words[0], false
	case v == nil:
		return "", true
	case !isText || !slices.Contains(words, word):
		s.reject(field, "is invalid")
		return words[0], false
	}
	return word, false
}

// id reads a UUID, and returns whether there is one.
func (s *changeset) id(field string) bool {
	v, _ := s.given(field)
	text, isText := v.(string)
	switch {
	case v == nil:
		return false
	case !isText:
		s.reject(field, "is invalid")
		return false
	}
	s.crash = s.crash || uuid.Validate(text) != nil || len(text) != len(uuid.Nil.String())
	return true
}

// time checks a time that is not used.
func (s *changeset) time(field string) {
	v, _ := s.given(field)
	if v == nil {
		return
	}
	text, _ := v.(string)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if _, err := time.Parse(layout, strings.Replace(text, " ", "T", 1)); err == nil {
			return
		}
	}
	s.reject(field, "is invalid")
}

// name checks a name, which is empty if it was rejected before.
func (s *changeset) name(name string) {
	if text := checkName(strings.TrimSuffix(name, "\n"), false); text != "" {
		s.reject("name", text)
	}
}

// err returns what the request is refused with.
func (s *changeset) err() error {
	switch {
	case s.errors != nil:
		return invalid(s.errors)
	case s.crash:
		return errInternal
	}
	return nil
}

// castStream reads the params of a new stream.
func castStream(p params, _ int64) (store.StreamOptions, error) {
	s := changeset{params: p}
	o := store.StreamOptions{Name: s.text("name")}
	s.name(o.Name)
	return o, s.err()
}

// castConsumer reads the params of a new consumer. linked says that it names an endpoint, of which there is none.
func castConsumer(p params) (o store.ConsumerOptions, linked bool, err error) {
	s := changeset{params: p}
	o = store.ConsumerOptions{Name: s.text("name"), Filter: s.text("filter_key_pattern"), ConsumerLimits: defaultLimits}
	s.limits(&o.ConsumerLimits)
	kind, noKind := s.choice("kind", "pull", "push")
	status, noStatus := s.choice("status", "active", "disabled")
	if noKind {
		s.reject("kind", "can't be blank")
	}
	if noStatus {
		s.reject("status", "can't be blank")
	}
	linked = s.id("http_endpoint_id")
	given, err := s.endpoint()
	if err != nil {
		return o, linked, err
	}
	o.Disabled = status == "disabled"
	if s.errors == nil {
		s.name(o.Name)
	}
	s.crash = s.crash || !utf8.ValidString(o.Filter) || strings.Contains(o.Filter, "\x00")
	s.crash = s.crash || given && linked // two endpoints
	if err := s.err(); err != nil {
		return o, linked, err
	}
	if (kind == "push") != linked || given {
		return o, linked, invalidField("kind", "is invalid")
	}
	return o, linked, nil
}

// castLimits reads the params of a change of a consumer. Its other fields are ignored.
func castLimits(p params, l *store.ConsumerLimits) error {
	s := changeset{params: p}
	s.limits(l)
	kind, noKind := s.choice("kind", "pull", "push")
	status, noStatus := s.choice("status", "active", "disabled")
	linked := s.id("http_endpoint_id")
	if _, given := p["status"]; given {
		l.Disabled = status == "disabled"
	}
	s.crash = s.crash || noKind || noStatus || kind == "push" && linked
	if err := s.err(); err != nil {
		return err
	}
	if (kind == "push") != linked {
		return invalidField("kind", "is invalid")
	}
	return nil
}

// zeroDeliver is a max_deliver of zero. In the store 0 stands for null, and the 2024 server enforces no max_deliver. The value
// fits into an int of 32 bits; a consumer that asks for it shows zero.
const zeroDeliver = minInteger

func (s *changeset) limits(l *store.ConsumerLimits) {
	ms := int(l.AckWait / time.Millisecond)
	s.integer("ack_wait_ms", &ms, int(defaultAckWait/time.Millisecond), false)
	s.integer("max_ack_pending", &l.MaxAckPending, defaultMaxAckPending, false)
	s.integer("max_waiting", &l.MaxWaiting, defaultMaxWaiting, false)
	if s.integer("max_deliver", &l.MaxDeliver, 0, true) && l.MaxDeliver == 0 {
		l.MaxDeliver = zeroDeliver
	}
	l.AckWait = time.Duration(ms) * time.Millisecond
	s.time("backfill_completed_at")
}
