package pgcheck

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const s = time.Second

// acked is a delivery that is received in the tenth of a second before at, and acked in the tenth behind settle.
func acked(version int, at, settle time.Duration) *delivery {
	return &delivery{key: "k", version: version, began: at - s/10, ended: at, ack: true, settling: settle, settled: settle + s/10}
}

func lost(version int, at time.Duration) *delivery {
	return &delivery{key: "k", version: version, began: at - s/10, ended: at}
}

func nacked(version int, at, settle time.Duration) *delivery {
	d := acked(version, at, settle)
	d.ack = false
	return d
}

func inDoubt(version int, at, settle time.Duration) *delivery {
	d := acked(version, at, settle)
	d.settled = 0
	return d
}

// waited is a delivery whose receive had waited since began.
func waited(d *delivery, began time.Duration) *delivery {
	d.began = began
	return d
}

// TestAnAccountFindsWhatContradictsThePromises has histories of one key, in seconds. Two versions of it were sent, at 1 and at 2.
func TestAnAccountFindsWhatContradictsThePromises(t *testing.T) {
	for _, tt := range []struct {
		name  string
		keyed bool
		all   []*delivery
		want  string // "" for none
	}{
		{"all is well", false, []*delivery{acked(0, 3*s, 4*s), acked(1, 5*s, 6*s)}, ""},
		{"a lease that ends", false, []*delivery{lost(0, 3*s), acked(0, 6*s, 7*s), acked(1, 8*s, 9*s)}, ""},
		{"a nack", false, []*delivery{nacked(0, 3*s, 4*s), acked(0, 5*s, 6*s), acked(1, 8*s, 9*s)}, ""},
		{"an ack that comes too late", false, []*delivery{acked(0, 3*s, 6*s), acked(0, 7*s, 8*s), acked(1, 9*s, 10*s)}, ""},
		{"a message is lost", false, []*delivery{acked(0, 3*s, 4*s)}, "version 1 of 2 was sent and is not acked"},
		{"an ack in doubt that has taken place", false, []*delivery{inDoubt(0, 3*s, 4*s), acked(1, 5*s, 6*s)}, ""},
		{"an ack in doubt that has not", false, []*delivery{inDoubt(0, 3*s, 4*s), acked(0, 6*s, 7*s), acked(1, 8*s, 9*s)}, ""},
		{"a nack of a receive that began later", false, []*delivery{waited(acked(0, 5*s, 55*s/10), 3*s), waited(nacked(0, 4*s, 45*s/10), 35*s/10), acked(1, 6*s, 7*s)}, ""},
		{"a nack that nothing follows", false, []*delivery{acked(0, 3*s, 4*s), nacked(1, 5*s, 6*s)}, "version 1 of 2 was sent and is not acked"},
		{"a lease that ends and nothing follows", false, []*delivery{acked(0, 3*s, 4*s), lost(1, 5*s)}, "version 1 of 2 was sent and is not acked"},
		{"two live leases", false, []*delivery{lost(0, 3*s), acked(0, 4*s, 5*s), acked(1, 6*s, 7*s)}, "version 0 was leased at 3.9s"},
		{"an ack that is forgotten", false, []*delivery{acked(0, 3*s, 4*s), acked(0, 6*s, 7*s), acked(1, 8*s, 9*s)}, "version 0 was acked at 4.1s and delivered again"},
		{"a wrong order", false, []*delivery{acked(1, 3*s, 4*s), acked(0, 5*s, 6*s)}, "before version 0 was acked"},
		{"two of a key at once", false, []*delivery{acked(0, 3*s, 45*s/10), acked(1, 4*s, 5*s)}, "while version 0"},
		{"what nobody has sent", false, []*delivery{acked(0, 3*s, 4*s), acked(1, 5*s, 6*s), acked(2, 7*s, 8*s)}, "version 2 was delivered and never sent"},
		{"the newest only", true, []*delivery{acked(1, 3*s, 4*s)}, ""},
		{"a replaced version", true, []*delivery{acked(0, 3*s, 4*s), acked(1, 5*s, 6*s)}, "version 0 was delivered at 2.9s, after version 1 was stored"},
		{"an old version that began before", true, []*delivery{acked(0, 2*s, 3*s), acked(1, 5*s, 6*s)}, ""},
		{"the newest is lost", true, []*delivery{acked(0, 2*s, 3*s)}, "version 1 of 2 was sent and is not acked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccount("s", tt.keyed, 2*s)
			for version := range 2 {
				require.Equal(t, version, a.sending("k"))
				a.sent("k", version, time.Duration(1+version)*s)
			}
			a.received(tt.all)
			faults := a.check()
			if tt.want == "" {
				require.Empty(t, faults)
				require.Zero(t, a.left())
				return
			}
			require.Contains(t, strings.Join(faults, "\n"), tt.want)
		})
	}
}

// TestAnAccountFindsWhatIsStoredWrongly compares the versions that a stream has with those that were sent.
func TestAnAccountFindsWhatIsStoredWrongly(t *testing.T) {
	for _, tt := range []struct {
		keyed bool
		found []int
		want  string
	}{
		{false, []int{0, 1}, ""}, {false, []int{0, 1, 2}, ""}, {false, []int{0}, "version 1 was sent and is not stored"},
		{false, []int{0, 1, 1}, "version 1 is stored behind version 1"}, {false, []int{1, 0}, "version 0 is stored behind version 1"},
		{true, []int{2}, ""}, {true, []int{1, 2}, "2 messages are stored"}, {true, nil, "0 messages are stored"},
	} {
		a := newAccount("s", tt.keyed, time.Second)
		for version := range 3 { // the last is in doubt
			a.sending("k")
			if version < 2 {
				a.sent("k", version, 1)
			}
		}
		faults := a.checkStored(map[string][]int{"k": tt.found})
		if tt.want == "" {
			require.Empty(t, faults, tt.found)
			continue
		}
		require.Contains(t, strings.Join(faults, "\n"), tt.want)
	}
}
