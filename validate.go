package sequin

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/internal/wire"
)

// MaxBatch is the most messages, and the most ack ids, in one request: the API's own limit.
const MaxBatch = 1000

// MaxRequestBytes is the most bytes that a request's body may have. The real server answers 413 to more, and the
// connection cannot be used afterwards.
const MaxRequestBytes = 8_000_000

// The rules of keys, from the server's own refusals.
const (
	maxKeyLen    = 255
	maxKeyTokens = 16
)

// checkKey reports the first rule that key breaks, or how many bytes of JSON it makes. The 2024 server answers some broken
// rules with a bare 500, for the whole batch.
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

// checkPattern reports the first rule that a filter breaks.
func checkPattern(pattern string) error {
	if reason := brokenKeyRule(pattern, true); reason != "" {
		return fmt.Errorf("%w: %q %s", ErrInvalidPattern, clip(pattern), reason)
	}
	return nil
}

// What isCommon has to know of a byte.
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

// isCommon reports that key breaks no rule and stands for itself in JSON. Every Send asks; the answer takes a quarter of
// the time that brokenKeyRule and the scanner take together. What is not common may still be right.
func isCommon(key string) bool {
	seen, before, dots := uint8(0), uint8(dot), 0
	for i := range len(key) {
		class := byteClass[key[i]]
		seen |= class&uncommon | class&before // a dot after a dot, or in front, makes an empty token
		before = class
		dots += int(class / dot)
	}
	return seen == 0 && before != dot && dots < maxKeyTokens && len(key) <= maxKeyLen
}

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
				return fmt.Sprintf("holds %q: printable ASCII without spaces only", r)
			} else if !wildcards && (c == '*' || c == '>') {
				return fmt.Sprintf("holds %q, which is for patterns", c)
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

// clip keeps an error's text readable when what it quotes is not.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

// checkMessage returns how many bytes the message takes in a request, its comma included.
func checkMessage(m Message) (size int, err error) {
	key, err := checkKey(m.Key)
	if err != nil {
		return 0, err
	}
	data, ok := jscan.StringSize(m.Data)
	if !ok {
		return 0, fmt.Errorf("%w: data of %q is not UTF-8, or holds a NUL; encode it, say as base64", ErrInvalidData, m.Key)
	}
	size = wire.MessageOverhead + key + data
	if wire.SendOverhead+size > MaxRequestBytes {
		return 0, fmt.Errorf("%w: message %q takes %d bytes of JSON, a request at most %d", ErrTooLarge, m.Key, wire.SendOverhead+size, MaxRequestBytes)
	}
	return size, nil
}

// checkBatch returns the size of the request that the messages make.
func checkBatch(messages []Message) (size int, err error) {
	if len(messages) == 0 {
		return 0, fmt.Errorf("%w: no messages", ErrInvalidArgument)
	}
	if len(messages) > MaxBatch {
		return 0, fmt.Errorf("%w: %d messages, at most %d a request", ErrBatchTooLarge, len(messages), MaxBatch)
	}
	size = wire.SendOverhead
	for i, m := range messages {
		n, err := checkMessage(m)
		if err != nil && len(messages) > 1 {
			err = fmt.Errorf("message %d: %w", i, err)
		}
		if err != nil {
			return 0, err
		}
		size += n
	}
	if size > MaxRequestBytes {
		return 0, fmt.Errorf("%w: the messages take %d bytes of JSON, a request at most %d", ErrTooLarge, size, MaxRequestBytes)
	}
	return size, nil
}

// doubledKey returns a key that stands twice.
func doubledKey(messages []Message) (string, bool) {
	var seen batch.IDSet // of hashes: a map of keys costs as much as all the rest of a batch's checks
	seen.Reset(len(messages))
	for i, m := range messages {
		same := func(o Message) bool { return o.Key == m.Key }
		if !seen.Add(max(1, maphash.String(keySeed, m.Key))) && slices.ContainsFunc(messages[:i], same) {
			return m.Key, true
		}
	}
	return "", false
}

var keySeed = maphash.MakeSeed()

func checkAckIDs(ids []string) error {
	if len(ids) == 0 {
		return fmt.Errorf("%w: no ack ids", ErrInvalidArgument)
	}
	if len(ids) > MaxBatch {
		return fmt.Errorf("%w: %d ack ids, at most %d a request", ErrBatchTooLarge, len(ids), MaxBatch)
	}
	for i, id := range ids {
		// uuid.Parse also takes braces, a urn: prefix and no dashes, all of which the server refuses, for all ids.
		if _, err := uuid.Parse(id); err != nil || len(id) != len("00000000-0000-0000-0000-000000000000") {
			return fmt.Errorf("%w: ack id %d is %q", ErrInvalidAckID, i, clip(id))
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

// checkName refuses what cannot be an element of a path. Which characters a new name may have is the server's to say:
// the 2024 server refuses dashes, others take them.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the %s has no name", ErrInvalidArgument, what)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q cannot name a %s", ErrInvalidArgument, name, what)
	}
	return nil
}

// checkMillis refuses durations that the API, which counts in milliseconds, would round in silence.
func checkMillis(what string, d time.Duration) error {
	if d < 0 || d%time.Millisecond != 0 {
		return fmt.Errorf("%w: %s is %v, must be whole milliseconds", ErrInvalidArgument, what, d)
	}
	return nil
}
