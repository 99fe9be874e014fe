package server_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin/server"
)

var (
	secondsText = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)
	microsText  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`)
)

// added are the members that the documented mode adds to the recorded ones.
var added = []string{
	"one_message_per_key", "process_unmodified", "max_storage_gb", "retain_up_to", "retain_at_least", "deliver_count", "start_seq",
}

// compare returns where two JSON values differ, or "". Ids may be different, but equal ids must stay equal. Seqs may be
// different, but in the same order. Times may be different, but of the same form.
func (p *player) compare(path string, got, want any) string {
	switch want := want.(type) {
	case map[string]any:
		return p.compareObjects(path, got, want)
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Sprintf("%s: %v, recorded %v", path, got, want)
		}
		for i := range want {
			if diff := p.compare(fmt.Sprintf("%s[%d]", path, i), list[i], want[i]); diff != "" {
				return diff
			}
		}
		return ""
	case string:
		if text, ok := got.(string); ok {
			return p.compareTexts(path, text, want)
		}
	}
	if got != want {
		return fmt.Sprintf("%s: %v, recorded %v", path, got, want)
	}
	return ""
}

func (p *player) compareObjects(path string, got any, want map[string]any) string {
	object, ok := got.(map[string]any)
	if !ok {
		return fmt.Sprintf("%s: %v, recorded %v", path, got, want)
	}
	for name := range object {
		if _, recorded := want[name]; recorded {
			continue
		}
		if p.compat == server.Aug2024 || !slices.Contains(added, name) {
			return fmt.Sprintf("%s.%s: not recorded", path, name)
		}
	}
	for name := range want {
		value, there := object[name]
		if !there {
			return fmt.Sprintf("%s.%s: missing", path, name)
		}
		if diff := p.compareMember(path+"."+name, name, value, want[name]); diff != "" {
			return diff
		}
	}
	return compareTimes(path, object, want)
}

func (p *player) compareMember(path, name string, got, want any) string {
	if name == "seq" && p.compat == server.Aug2024 {
		return p.compareSeqs(path, got, want)
	}
	if name == "seq" || name == "storage_size" && p.compat == server.Documented {
		_, number := got.(float64) // seqs follow another order, and the size is in bytes instead of table pages
		if !number {
			return fmt.Sprintf("%s: %v is not a number", path, got)
		}
		return ""
	}
	if name == "summary" && want == "Validation failed" && p.compat == server.Documented {
		want = want.(string) + ": " // the documented mode adds the reason
		if text, _ := got.(string); strings.HasPrefix(text, want.(string)) && len(text) > len(want.(string)) {
			return ""
		}
	}
	return p.compare(path, got, want)
}

func (p *player) compareSeqs(path string, got, want any) string {
	pair := seqPair{want.(float64), got.(float64)}
	for _, other := range p.seqs {
		if (pair.recorded < other.recorded) != (pair.served < other.served) ||
			(pair.recorded == other.recorded) != (pair.served == other.served) {
			return fmt.Sprintf("%s: %v for the recorded %v, but %v for %v", path, pair.served, pair.recorded, other.served, other.recorded)
		}
	}
	p.seqs = append(p.seqs, pair)
	return ""
}

func (p *player) compareTexts(path, got, want string) string {
	for _, form := range []*regexp.Regexp{secondsText, microsText} {
		if form.MatchString(want) {
			if !form.MatchString(got) {
				return fmt.Sprintf("%s: %q, recorded %q", path, got, want)
			}
			return ""
		}
	}
	if uuidText.FindString(want) != want || want == "" {
		if got != want {
			return fmt.Sprintf("%s: %q, recorded %q", path, got, want)
		}
		return ""
	}
	if uuidText.FindString(got) != got {
		return fmt.Sprintf("%s: %q is not an id", path, got)
	}
	known, seen := p.ids[want]
	// In the documented mode ack ids change with every delivery. The next request uses the newest.
	if seen && known != got && p.compat == server.Aug2024 {
		return fmt.Sprintf("%s: the recorded id %s was %s before, now %s", path, want, known, got)
	}
	p.ids[want] = got
	return ""
}

// compareTimes compares the durations between the times of one object, which show whether a message was replaced and how
// long its lease is.
func compareTimes(path string, got, want map[string]any) string {
	for _, pair := range [][2]string{{"inserted_at", "updated_at"}, {"last_delivered_at", "not_visible_until"}} {
		g, ok := between(got, pair)
		w, recorded := between(want, pair)
		if ok != recorded {
			return fmt.Sprintf("%s: %s and %s are not both set as recorded", path, pair[0], pair[1])
		}
		if pair[0] == "inserted_at" {
			g, w = min(g, 1), min(w, 1)
		}
		if (g - w).Abs() > time.Millisecond {
			return fmt.Sprintf("%s: %v from %s to %s, recorded %v", path, g, pair[0], pair[1], w)
		}
	}
	return ""
}

// between returns the time between two members, if both have microseconds. Times in seconds are too coarse to compare.
func between(object map[string]any, names [2]string) (time.Duration, bool) {
	var times [2]time.Time
	for i, name := range names {
		text, _ := object[name].(string)
		if !microsText.MatchString(text) {
			return 0, false
		}
		times[i], _ = time.Parse(time.RFC3339Nano, text)
	}
	return times[1].Sub(times[0]), true
}
