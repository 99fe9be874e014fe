package console

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// rates is a rate with a history.
func rates(history ...float64) overview.Rate {
	return overview.Rate{Known: true, Now: history[len(history)-1], History: history}
}

func TestTheStateOfAConsumerSaysWhatIsWrong(t *testing.T) {
	begin := overview.Consumer{Consumer: sequin.Consumer{MaxAckPending: 100, AckWait: time.Minute}, Measured: true, Deliveries: rates(5, 0), Redeliveries: rates(0)}
	for _, row := range []struct {
		word, level, why string
		change           func(*overview.Consumer)
	}{
		{"", "", "", func(c *overview.Consumer) { c.Measured = false }},
		{"Up to date", "good", "2 receives wait for more", func(c *overview.Consumer) { c.Waiting = 2 }},
		{"Up to date", "idle", "No receive waits for more", func(*overview.Consumer) {}},
		{"Full", "bad", "100 messages are on lease or kept back", func(c *overview.Consumer) { c.Backlog, c.Outstanding, c.Delayed = 900, 60, 40 }},
		{"Delayed", "warn", "kept back by a nack", func(c *overview.Consumer) { c.Backlog, c.Delayed = 3, 3 }},
		{"Not received", "bad", "no program receives them", func(c *overview.Consumer) { c.Backlog, c.Deliveries = 3, rates(0, 0) }},
		{"Not received", "warn", "1 message is on lease. The others are available", func(c *overview.Consumer) { c.Backlog, c.Outstanding, c.Deliveries = 3, 1, rates(0, 0) }},
		{"Working", "good", "received and settled", func(c *overview.Consumer) { c.Backlog = 3 }}, // there were deliveries just now
		{"", "", "", func(c *overview.Consumer) {
			c.Backlog, c.Deliveries, c.Redeliveries = 3, overview.Rate{}, overview.Rate{}
		}}, // of the first question
		{"Behind", "warn", "has waited for 5 min", func(c *overview.Consumer) {
			c.Backlog, c.Deliveries, c.OldestKnown, c.OldestAge = 3, overview.Rate{}, true, 301*time.Second
		}},
		{"Working", "good", "received and settled", func(c *overview.Consumer) { c.Backlog, c.Waiting, c.Deliveries = 3, 1, overview.Rate{} }},
		{"Working", "good", "received and settled", func(c *overview.Consumer) { c.Backlog, c.Outstanding, c.Deliveries = 3, 1, overview.Rate{} }},
		{"Working", "good", "received and settled", func(c *overview.Consumer) { c.Backlog, c.Waiting, c.Deliveries = 3, 1, rates(0, 0) }},
		{"Working", "good", "received and settled", func(c *overview.Consumer) { c.Backlog, c.Outstanding, c.Deliveries = 1, 1, rates(0, 0) }},
		{"Not received", "bad", "", func(c *overview.Consumer) { c.Backlog, c.Deliveries = 3, rates(9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) }}, // that was long ago
		{"Failing", "warn", "20% of the deliveries are not the first", func(c *overview.Consumer) { c.Backlog, c.Redeliveries = 3, rates(1, 0) }},
		{"Behind", "warn", "has waited for 5 min", func(c *overview.Consumer) { c.Backlog, c.OldestKnown, c.OldestAge = 3, true, 301*time.Second }},
	} {
		c := begin
		row.change(&c)
		got := healthOf(c)
		require.Equal(t, row.word, got.Word)
		require.Equal(t, row.level, got.Level, row.word)
		require.Contains(t, got.Why, row.why)
	}
}

func TestTheConsumersThatWaitLongestComeFirst(t *testing.T) {
	load := func(name string, age time.Duration, backlog, outstanding, delayed, waiting int64) overview.Load {
		return overview.Load{Stream: "s", Consumer: name, OldestAge: age, Backlog: backlog, Outstanding: outstanding, Delayed: delayed, Waiting: waiting}
	}
	loads := []overview.Load{
		load("a", time.Minute, 9, 9, 0, 0), load("b", 5*time.Minute, 8, 0, 0, 0), load("c", 59*time.Second, 7, 0, 0, 0), load("d", 3*time.Minute, 6, 0, 6, 0),
		load("e", 2*time.Minute, 6, 1200, 0, 0), load("f", 4*time.Minute, 1300, 1, 0, 0),
	}
	var got []string
	for _, row := range late(loads) {
		got = append(got, row.Consumer+" "+row.Oldest+": "+row.Why)
	}
	require.Equal(t, []string{
		"b 5 min: nobody receives at the moment", "f 4 min: 1 on lease, and nobody receives the others at the moment", "d 3 min: kept back by nacks with a delay",
		"e 2 min: 1,200 on lease", "a 1 min: 9 on lease",
	}, got)
	require.Empty(t, late(loads[2:3]))
	require.Len(t, late(append(loads, loads...)), maxLate)
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -100: "-100"} {
		require.Equal(t, want, overview.Number(n))
	}
	for n, want := range map[float64]string{0: "0/s", 0.01: "<0.1/s", 0.1: "0.1/s", 9.94: "9.9/s", 9.96: "10/s", 1234.5: "1,235/s"} {
		require.Equal(t, want, perSecond(rates(n)))
	}
	require.Equal(t, unknown, perSecond(overview.Rate{}))
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 20 * time.Millisecond: "20 ms", 59 * time.Second: "59 s", 90 * time.Second: "1 min", 47*time.Hour + 30*time.Minute: "47 h 30 min", 72 * time.Hour: "3 days",
	} {
		require.Equal(t, want, overview.Span(d))
	}
	now := time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC)
	require.Equal(t, moment{"now", "2026-01-31T15:04:05.5Z", "2026-01-31 15:04:05.500 UTC"}, ago(now, now.Add(time.Second/2)))
	require.Equal(t, moment{Text: unknown}, ago(now, time.Time{}))
	require.Equal(t, "2 min ago", ago(now, now.Add(-2*time.Minute)).Text)
	require.Equal(t, []string{"0%", "<1%", "50%"}, []string{percent(0), percent(0.001), percent(0.5)})
}

func TestASparklineEndsWithTheNewestRate(t *testing.T) {
	require.NotContains(t, string(spark(overview.Rate{})), "path")
	require.Contains(t, string(spark(rates(0, 0))), `d="M118.0 27.0L120.0 27.0"`, "nothing happens at the bottom")
	require.Contains(t, string(spark(rates(0, 10, 5))), `d="M115.9 27.0L118.0 2.0L120.0 14.5"`)
	total := sum([]overview.Rate{rates(1, 2, 3), rates(10), {}})
	require.Equal(t, overview.Rate{Known: true, Now: 13, History: []float64{1, 2, 13}}, total)
}

func TestFewLargeMessagesAreReadForAPage(t *testing.T) {
	for _, row := range []struct{ messages, bytes, want int64 }{
		{0, 0, messagesPerPage}, {10, 10_000, messagesPerPage}, {10, 10_000_000, 4}, {10, 80_000_000, 1}, {10, 0, messagesPerPage},
	} {
		s := &sequin.Stream{Stats: sequin.StreamStats{MessageCount: row.messages, StorageSize: row.bytes}}
		require.EqualValues(t, row.want, perPage(s), row)
	}
}
