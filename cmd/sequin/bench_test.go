package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// bench runs sequin bench --json with the arguments of a line, and returns its results by part.
func (s *shell) bench(line string) map[string]benchResult {
	s.t.Helper()
	require.Zero(s.t, s.exec(append([]string{"bench", "--json"}, strings.Fields(line)...)...), s.errors)
	var results []benchResult
	require.NoError(s.t, json.Unmarshal([]byte(s.out), &results))
	byPart := map[string]benchResult{}
	for _, r := range results {
		byPart[string(r.Part)] = r
	}
	require.Len(s.t, byPart, len(results))
	require.NotContains(s.t, s.srv.Streams(), "sequin_bench", "its stream is removed")
	return byPart
}

// acked counts the ids in the acks.
func (s *shell) acked() (n int) {
	for _, r := range s.srv.Requests(sequintest.Ack) {
		n += len(r.AckIDs())
	}
	return n
}

func TestBenchMeasuresAllParts(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 20 * time.Millisecond})
		results := s.bench("--messages 3000 --size 1kB --publishers 2 --subscribers 3 --rate 10 --for 10s")
		require.Len(t, results, 3)
		sent := map[string]int{}
		for _, r := range s.srv.Requests(sequintest.Send) {
			for _, m := range r.Messages() {
				sent[m.Key]++
				require.Len(t, m.Data, 1000)
			}
		}
		require.Len(t, sent, 3100)
		require.Equal(t, 3100, s.acked())

		publish := results["publish"]
		require.Equal(t, 3000, publish.Messages)
		require.Equal(t, 1000, publish.Size)
		require.Equal(t, 2, publish.Clients)
		require.Equal(t, &benchLatency{20, 20, 20, 20}, publish.LatencyMS)
		require.InEpsilon(t, 3000/publish.Seconds, publish.MessagesPerSecond, 1e-9)
		require.Equal(t, 3, results["consume"].Clients)
		require.Equal(t, 3000, results["consume"].Messages)
		require.Nil(t, results["consume"].LatencyMS)
		endToEnd := results["end-to-end"]
		require.Equal(t, 100, endToEnd.Messages)
		require.Equal(t, 5, endToEnd.Clients)
		require.InDelta(t, 9.92, endToEnd.Seconds, 1e-9, "the last message is due after 9.9 s")
		require.Equal(t, &benchLatency{20, 20, 20, 20}, endToEnd.LatencyMS)
	})
}

func TestBenchPrintsATableAndItsProgress(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 1500 * time.Millisecond})
		s.run("bench publish --messages 1")
		slow.Remove()
		s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 300 * time.Millisecond}) // one request after the other
		s.run("bench end-to-end --rate 1 --for 3s --size 10kB")
		s.run("bench publish produce")
		s.run("bench --messages 0")
		s.run("bench --size 8MB")
		s.run("bench --size 0")
		require.Zero(t, s.exec("stream", "add", "sequin_bench"))
		s.run("bench")
		s.run("bench publish --messages 1 --stream other_bench")
		s.golden("bench")
		require.Equal(t, []string{"sequin_bench"}, s.srv.Streams(), "the stream of the user is left alone")
	})
}

// Only the first request takes a second. Its lane has others after it.
func TestTheSlowestRequestIsTheMaximum(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		for _, line := range []string{"publish --messages 8000", "end-to-end --rate 1 --for 5s"} {
			s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 900 * time.Millisecond, Count: 1})
			for _, r := range s.bench(line) {
				require.Equal(t, 900.0, r.LatencyMS.Max, line)
				require.Zero(t, r.LatencyMS.P50, line)
			}
		}
	})
}

func TestBenchMeasuresOnlyThePartsThatAreNamed(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		results := s.bench("consume --messages 2000")
		require.Len(t, results, 1)
		require.Equal(t, 2000, results["consume"].Messages)
		require.Len(t, s.bench("publish --messages 1"), 1)
		require.Len(t, s.bench("end-to-end consume --messages 1 --rate 1 --for 1s"), 2)
	})
}

func TestBenchMeasuresTheServerOfAugust2024(t *testing.T) {
	inShell(t, sequintest.Config{Compat: server.Aug2024}, func(t *testing.T, s *shell) {
		results := s.bench("--messages 12000 --rate 100 --for 2s")
		require.Equal(t, 12000, results["consume"].Messages, "more than the server delivers by default in five minutes")
		require.Equal(t, 200, results["end-to-end"].Messages)
	})
}

// TestBenchCountsAMessageOnce loses the acks for longer than a lease, so that messages are delivered again.
func TestBenchCountsAMessageOnce(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		lost := s.srv.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503})
		time.AfterFunc(40*time.Second, lost.Remove)
		result := s.bench("end-to-end --rate 2 --for 60s")["end-to-end"]
		require.GreaterOrEqual(t, result.Seconds, 59.5, "the last message is delivered")
		deliveries := 0
		for _, r := range s.srv.Requests(sequintest.Receive) {
			deliveries += len(r.Deliveries())
		}
		require.Greater(t, deliveries, 120)
	})
}

func TestAnInterruptedBenchRemovesItsStream(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		for _, line := range []string{"bench publish --messages 100000000", "bench consume --messages 1", "bench end-to-end --for 1h"} {
			slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 10 * time.Second})
			wait := s.start(strings.Fields(line)...)
			time.Sleep(5 * time.Second)
			require.Equal(t, []string{"sequin_bench"}, s.srv.Streams())
			s.interrupt()
			code, text := wait()
			require.Equal(t, cli.ExitFailed, code)
			require.True(t, strings.HasSuffix(text, "\nsequin: stopped by a signal\n"), text)
			require.Empty(t, s.srv.Streams())
			slow.Remove()
		}
	})
}

// A signal that comes while the stream is added must not leave it.
func TestABenchThatIsInterruptedAtOnceLeavesNoStream(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		s.srv.Fault(sequintest.Fault{Op: sequintest.CreateStream, DelayAfter: time.Second})
		wait := s.start("bench")
		s.interrupt()
		code, text := wait()
		require.Equal(t, cli.ExitFailed, code)
		require.Equal(t, "sequin: stopped by a signal\n", text)
		require.Equal(t, 1, s.srv.Count(sequintest.DeleteStream))
		require.Empty(t, s.srv.Streams())
	})
}

func TestABenchEndsWhenTheServerStaysAway(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second})
		wait := s.start("bench", "publish")
		require.NoError(t, slow.Wait(t.Context(), 1))
		began := time.Now()
		s.srv.Down()
		code, text := wait()
		require.Equal(t, cli.ExitUnreachable, code, text)
		require.Less(t, time.Since(began), 3*time.Minute)
		require.Contains(t, text, "the stream is left")
	})
}

func TestABenchSaysWhatMayBeLeft(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		gone := s.srv.Fault(sequintest.Fault{Op: sequintest.DeleteStream, Status: 404, Body: `{"summary":"Not found"}`})
		require.Zero(t, s.exec("bench", "publish", "--messages", "1", "--stream", "a"), "another program has removed the stream")
		gone.Remove()
		s.srv.Fault(sequintest.Fault{Op: sequintest.DeleteStream, Status: 500, Body: `{"summary":"not now"}`})
		wait := s.start("bench", "end-to-end", "--for", "1h", "--stream", "b")
		time.Sleep(time.Second / 2)
		s.interrupt()
		code, text := wait()
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, text, "sequin: stopped by a signal; the stream is left: run \"sequin stream rm b --force\"")
		s.srv.Fault(sequintest.Fault{Op: sequintest.CreateStream, CutAfter: true})
		require.Equal(t, cli.ExitFailed, s.exec("bench", "--stream", "c"))
		require.Contains(t, s.errors, `if the stream "c" is there, remove it`)
	})
}

func TestABenchThatCannotGoOnSaysWhy(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		refused := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"no room"}`})
		for _, line := range []string{"bench publish", "bench end-to-end"} {
			require.Equal(t, cli.ExitFailed, s.exec(strings.Fields(line)...))
			require.Contains(t, s.errors, "no room")
			require.Empty(t, s.srv.Streams())
			require.Empty(t, s.out)
		}
		refused.Remove()
		s.srv.Fault(sequintest.Fault{Op: sequintest.DeleteStream, Status: 500, Body: `{"summary":"not now"}`})
		require.Equal(t, cli.ExitFailed, s.exec("bench", "publish", "--messages", "1"))
		require.Contains(t, s.errors, `the stream is left: run "sequin stream rm sequin_bench --force"`)
		require.Contains(t, s.out, "publish  1  ", "the figures are there")
		s.srv.Down()
		require.Equal(t, cli.ExitUnreachable, s.exec("bench"))
	})
}
