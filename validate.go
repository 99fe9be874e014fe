package sequin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/internal/wire"
)

// Message is what a producer sends.
//
// Key has 1 to 255 characters, printable ASCII without space, '*' and '>'. Dots divide it into at most 16 tokens, none of
// them empty. Data is valid UTF-8 without NUL, usually JSON. A message takes at most 8,000,000 bytes as JSON.
type Message struct {
	Key  string `json:"key"`
	Data string `json:"data"`
	// Headers are for what is not a part of the data, for instance the id of a trace: at most MaxHeaders, whose names have
	// letters, digits, '_', '.' and '-', in which case matters. Values are valid UTF-8 without NUL. Names and values have at
	// most MaxHeaderBytes together. Default none. A server that does not announce headers drops them in silence: see SendMessages.
	Headers map[string]string `json:"headers,omitempty"`
}

// MaxBatch is the largest number of messages, or of ack ids, in one request. It is the API's own limit.
const MaxBatch = 1000

// MaxRequestBytes is the largest body of a request, in bytes. The real server answers 413 to a larger one, and the
// connection cannot be used afterwards.
const MaxRequestBytes = 8_000_000

// The limits of keys, as the server's refusals name them.
const (
	maxKeyLen    = 255
	maxKeyTokens = 16
)

// checkKey returns the size of key as a JSON string, or an error that names the first rule that key breaks. The 2024 server
// answers some of these keys with a 500 without a summary, for the whole batch.
func checkKey(key string) (size int, err error) {
	if isCommon(key) {
		return len(key) + len(`""`), nil
	}
	if reason := brokenKeyRule(key, false); reason != "" {
		return 0, fmt.Errorf("%w: %q %s", ErrInvalidKey, clip(key), reason)
	}
	size, _ = jscan.StringSize(key)
	return size, nil
}

// checkPattern returns an error that names the first rule that a filter or key pattern breaks.
func checkPattern(pattern string) error {
	if reason := brokenKeyRule(pattern, true); reason != "" {
		return fmt.Errorf("%w: %q %s", ErrInvalidPattern, clip(pattern), reason)
	}
	return nil
}

// The classes of bytes that isCommon distinguishes.
const (
	uncommon = 1 << iota // not allowed in a key, or escaped in JSON
	dot
)

var byteClass = func() (class [256]uint8) {
	for b := range class {
		if b <= ' ' || b > '~' || strings.IndexByte(`*>"\`, byte(b)) >= 0 {
			class[b] = uncommon
		}
	}
	class['.'] = dot
	return class
}()

// isCommon reports whether key breaks no rule and needs no escape in JSON. A key that is not common may still be valid.
// Every Send calls it: it takes a quarter of the time of brokenKeyRule and jscan.StringSize.
func isCommon(key string) bool {
	seen, before, dots := uint8(0), uint8(dot), 0
	for i := range len(key) {
		class := byteClass[key[i]]
		seen |= class&uncommon | class&before // a dot at the start or after another dot makes an empty token
		before = class
		dots += int(class / dot)
	}
	return seen == 0 && before != dot && dots < maxKeyTokens && len(key) <= maxKeyLen
}

// brokenKeyRule describes the first rule that a key, or a pattern, breaks. It returns "" if there is none.
func brokenKeyRule(s string, wildcards bool) string {
	if s == "" {
		return "is empty"
	}
	if len(s) > maxKeyLen {
		return fmt.Sprintf("has %d characters, at most %d", len(s), maxKeyLen)
	}
	tokens, start := 1, 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			if c := s[i]; c <= ' ' || c > '~' {
				r, _ := utf8.DecodeRuneInString(s[i:])
				return fmt.Sprintf("contains %q; only printable ASCII without spaces is allowed", r)
			} else if !wildcards && (c == '*' || c == '>') {
				return fmt.Sprintf("contains %q, which only patterns may contain", c)
			}
			continue
		}
		token := s[start:i]
		last := i == len(s)
		switch {
		case token == "":
			return "has an empty token"
		case wildcards && token == ">" && !last:
			return "has a > that is not the last token"
		case wildcards && len(token) > 1 && strings.ContainsAny(token, "*>"):
			return fmt.Sprintf("has a wildcard inside the token %q", token)
		}
		if !last {
			tokens++
			start = i + 1
		}
	}
	if tokens > maxKeyTokens {
		return fmt.Sprintf("has %d tokens, at most %d", tokens, maxKeyTokens)
	}
	return ""
}

// checkMessage returns the size of a message in the body of a send, with its comma.
func checkMessage(key, data string, headers map[string]string) (size int, err error) {
	keySize, err := checkKey(key)
	if err != nil {
		return 0, err
	}
	dataSize, ok := jscan.StringSize(data)
	if !ok {
		return 0, fmt.Errorf("%w: data of %q is not UTF-8, or contains a NUL; encode it, for instance as base64", ErrInvalidData, key)
	}
	size = wire.MessageOverhead + keySize + dataSize
	if len(headers) > 0 {
		headersSize, err := checkHeaders(key, headers)
		if err != nil {
			return 0, err
		}
		size += headersSize
	}
	if wire.SendOverhead+size > MaxRequestBytes {
		return 0, fmt.Errorf("%w: message %q takes %d bytes of JSON, a request at most %d", ErrTooLarge, key, wire.SendOverhead+size, MaxRequestBytes)
	}
	return size, nil
}

// The limits of the headers of one message.
const (
	MaxHeaders     = 64
	MaxHeaderBytes = 16 << 10 // of all names and values together
)

// checkHeaders returns the size of a message's headers in the body of a send, or an error that names a rule that they break.
func checkHeaders(key string, headers map[string]string) (size int, err error) {
	if len(headers) > MaxHeaders {
		return 0, fmt.Errorf("%w: message %q has %d, at most %d", ErrInvalidHeaders, key, len(headers), MaxHeaders)
	}
	bytes := 0
	for name, value := range headers {
		if name == "" || strings.ContainsFunc(name, isNotOfHeaderName) {
			return 0, fmt.Errorf("%w: message %q has the name %q; a name has letters, digits, '_', '.' and '-' only", ErrInvalidHeaders, key, clip(name))
		}
		bytes += len(name) + len(value)
	}
	if bytes > MaxHeaderBytes {
		return 0, fmt.Errorf("%w: those of message %q have %d bytes, at most %d", ErrInvalidHeaders, key, bytes, MaxHeaderBytes)
	}
	size, ok := wire.HeadersSize(headers)
	if !ok {
		return 0, fmt.Errorf("%w: a value in message %q is not UTF-8, or contains a NUL; encode it, for instance as base64", ErrInvalidHeaders, key)
	}
	return size, nil
}

func isNotOfHeaderName(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '.' || r == '-')
}

func checkAckIDs(ids []string) error {
	if len(ids) == 0 {
		return fmt.Errorf("%w: no ack ids", ErrInvalidArgument)
	}
	if len(ids) > MaxBatch {
		return fmt.Errorf("%w: %d ack ids, at most %d in a request", ErrBatchTooLarge, len(ids), MaxBatch)
	}
	for i, id := range ids {
		// uuid.Parse also accepts braces, a urn: prefix and no dashes. The server refuses these, and the whole request.
		if _, err := uuid.Parse(id); err != nil || len(id) != len("00000000-0000-0000-0000-000000000000") {
			return fmt.Errorf("%w: ack id %d is %q, must be a UUID with dashes", ErrInvalidAckID, i, clip(id))
		}
	}
	return nil
}

func checkNames(stream, consumer string) error {
	if err := checkName("stream", stream); err != nil {
		return err
	}
	return checkName("consumer", consumer)
}

// checkName refuses a name that cannot be an element of a path. The server decides which characters a new name may have:
// the 2024 server refuses dashes, others accept them.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name of the %s is empty", ErrInvalidArgument, what)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q cannot be the name of a %s", ErrInvalidArgument, name, what)
	}
	return nil
}

// checkMillis refuses a duration with a fraction of a millisecond: the API counts in milliseconds and would round it.
func checkMillis(what string, d time.Duration) error {
	if d < 0 || d%time.Millisecond != 0 {
		return fmt.Errorf("%w: %s is %v, must be whole milliseconds", ErrInvalidArgument, what, d)
	}
	return nil
}

// ensure calls get, then create if nothing was found, then get again if another program was faster or the answer to create
// was lost.
func ensure[T any](get, create func() (*T, error)) (*T, error) {
	found, err := get()
	if !errors.Is(err, ErrNotFound) {
		return found, err
	}
	created, err := create()
	var api *APIError
	raced := errors.As(err, &api) && api.Status == http.StatusUnprocessableEntity
	if !raced && !errors.Is(err, ErrOutcomeUnknown) {
		return created, err
	}
	if found, again := get(); again == nil {
		return found, nil
	}
	return nil, err // the error of create says more than that nothing was found
}

// differs describes the difference between an option that the caller set (not zero) and what the server shows (nil if it does
// not know the option). It returns "" if there is none.
func differs[T comparable](option string, want T, shown *T) string {
	var unset T
	switch {
	case want == unset:
		return ""
	case shown == nil:
		return fmt.Sprintf("%s is not %v: the server shows no such option", option, want)
	case *shown == want:
		return ""
	}
	return fmt.Sprintf("%s is %v, not %v", option, *shown, want)
}

// mismatch makes the error of the differences, or nil if all of them are "".
func mismatch(what, name string, differences ...string) error {
	differences = slices.DeleteFunc(differences, func(d string) bool { return d == "" })
	if len(differences) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s %q: %s", ErrMismatch, what, name, strings.Join(differences, "; "))
}

// MaxExtension is the longest time by which one call extends a lease.
const MaxExtension = (1<<31 - 1) * time.Millisecond

// checkExtension checks the time of an extension.
func checkExtension(ackWait time.Duration) error {
	if ackWait < time.Millisecond || ackWait > MaxExtension {
		return fmt.Errorf("%w: the time is %v, must be at least 1ms and at most %v", ErrInvalidArgument, ackWait, MaxExtension)
	}
	return nil
}

// Start says where a new consumer starts: StartBeginning, StartEnd, or what StartSeq or StartTime returns. It is also the text
// of a Seq or of an RFC 3339 time.
type Start string

// The Starts at the first message of a stream, and at the next one that is stored.
const (
	StartBeginning Start = "beginning"
	StartEnd       Start = "end"
)

// StartSeq returns the Start at the message with that Seq, at least 1, or the next one that is there. A Seq behind the last
// message is the end, so that no later message is left out.
func StartSeq(seq int64) Start { return Start(strconv.FormatInt(seq, 10)) }

// StartTime returns the Start at the first message that was stored at that time, by the server's clock, or later. A time behind
// the last message is the end. Times of messages have microseconds.
func StartTime(at time.Time) Start { return Start(at.UTC().Format(time.RFC3339Nano)) }

// seq returns the seq that s names; ok is false for none, and for the end or a time.
func (s Start) seq() (seq int64, ok bool) {
	if s == StartBeginning {
		return 1, true
	}
	seq, err := strconv.ParseInt(string(s), 10, 64)
	return seq, err == nil && seq > 0
}

func (s Start) validate() error {
	if _, ok := s.seq(); ok || s == "" || s == StartEnd {
		return nil
	}
	if _, err := time.Parse(time.RFC3339, string(s)); err != nil {
		return fmt.Errorf("%w: ConsumerOptions.StartFrom is %q, must be %q, %q, a Seq from 1, or an RFC 3339 time",
			ErrInvalidArgument, string(s), StartBeginning, StartEnd)
	}
	return nil
}
