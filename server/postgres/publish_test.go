package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// TestAGroupEndsBeforeASendThatDependsOnIt holds which sends one transaction publishes.
func TestAGroupEndsBeforeASendThatDependsOnIt(t *testing.T) {
	send := func(key, parent string, messages ...string) *sending {
		x := &sending{}
		if key != "" {
			x.token = tokenOf(key)
		}
		if parent != "" {
			x.parents = append(x.parents, tokenOf(parent))
		}
		for _, k := range messages {
			x.messages = append(x.messages, store.Message{Key: k})
		}
		return x
	}
	appends, keyed, bounded := &publisher{}, &publisher{}, &publisher{}
	keyed.stream.OneMessagePerKey = true
	bounded.stream.MaxBytes = 1
	for _, tt := range []struct {
		name string
		p    *publisher
		all  []*sending
		want int
	}{
		{"sends without a key", appends, []*sending{send("", "", "a"), send("", "", "a")}, 2},
		{"a repeat of the first", appends, []*sending{send("k", "", "a"), send("k", "", "a")}, 1},
		{"a part of the first", appends, []*sending{send("k", "", "a"), send("l", "k", "a")}, 1},
		{"a part of another", appends, []*sending{send("k", "", "a"), send("l", "m", "a")}, 2},
		{"a version of a message of the first", keyed, []*sending{send("", "", "a", "b"), send("", "", "b")}, 1},
		{"other keys", keyed, []*sending{send("", "", "a", "a"), send("", "", "b")}, 2},
		{"a bounded stream", bounded, []*sending{send("", "", "a"), send("", "", "b")}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, tt.p.fits(tt.all)) })
	}
}
