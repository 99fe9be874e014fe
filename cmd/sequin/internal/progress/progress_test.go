package progress

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// shown returns what is printed while work of so many seconds counts 100 a second.
func shown(t *testing.T, terminal bool, seconds float64, part func(count int64) float64) (out string) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		var count atomic.Int64
		bar := Start(&text, terminal, "messages", func() State { return State{count.Load(), part(count.Load())} })
		for range int(seconds * 10) {
			time.Sleep(99 * time.Millisecond) // so that nothing is counted in the moment in which it is shown
			count.Add(10)
		}
		bar.Stop()
		out = text.String()
	})
	return out
}

// unknown is the part of work whose size is not known.
func unknown(int64) float64 { return -1 }

func ofThousand(count int64) float64 { return float64(count) / 1000 }

func TestEverySecondALineSaysHowFarTheWorkIs(t *testing.T) {
	require.Equal(t, "100 messages (10%), 100 a second, after 1s\n200 messages (20%), 100 a second, after 2s\n",
		shown(t, false, 3, ofThousand))
	require.Equal(t, "100 messages, 100 a second, after 1s\n", shown(t, false, 2, unknown))
}

func TestShortWorkShowsNothing(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		require.Empty(t, shown(t, terminal, 0.9, ofThousand))
		require.Empty(t, shown(t, terminal, 0.9, unknown))
	}
}

// TestATerminalHasABarThatGoesAway ends in a bubble, so that no goroutine can draw the bar again.
func TestATerminalHasABarThatGoesAway(t *testing.T) {
	for _, part := range []func(int64) float64{ofThousand, unknown} {
		out := shown(t, true, 4, part)
		require.Contains(t, out, "300 messages")
		require.NotContains(t, out, "\n")
		after := out[strings.LastIndex(out, "messages"):]
		require.Regexp(t, `\r +\r$`, after, "the line is empty at the end")
	}
	require.Contains(t, shown(t, true, 4, ofThousand), "█")
	require.Contains(t, shown(t, true, 20, func(int64) float64 { return 1 }), "1010 messages  99%", "the bar stays until Stop")
}

// TestTheRateIsThatOfTheLatestSecond counts ten times as fast in the second second.
func TestTheRateIsThatOfTheLatestSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		var count atomic.Int64
		bar := Start(&text, false, "messages", func() State { return State{count.Load(), -1} })
		count.Store(10)
		time.Sleep(1500 * time.Millisecond)
		count.Store(110)
		time.Sleep(time.Second)
		bar.Stop()
		require.Equal(t, "10 messages, 10 a second, after 1s\n110 messages, 100 a second, after 2s\n", text.String())
	})
}

func TestABarShowsTheTimeThatIsGoneAndThatIsLeft(t *testing.T) {
	require.Regexp(t, `300 messages +29% \|█{8} {22}\| +\[3s:7s\]`, shown(t, true, 4, ofThousand))
	require.NotContains(t, shown(t, true, 4, unknown), "%")
}

// An earlier run has counted 1,000.
func TestTheFirstRateIsThatOfThisRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		var count atomic.Int64
		count.Store(1000)
		bar := Start(&text, false, "messages", func() State { return State{count.Load(), -1} })
		count.Store(1010)
		time.Sleep(1500 * time.Millisecond)
		bar.Stop()
		require.Equal(t, "1010 messages, 10 a second, after 1s\n", text.String())
	})
}
