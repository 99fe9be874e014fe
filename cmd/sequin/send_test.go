package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/sequintest"
)

// inputFile writes n lines, whose keys are repeated every 7 lines, and returns the path.
func (s *shell) inputFile(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"key":"k.%d","data":{"n":%d}}`+"\n", i%7, i)
	}
	path := filepath.Join(s.home, "in.ndjson")
	require.NoError(s.t, os.WriteFile(path, []byte(text.String()), 0o600))
	return path
}

// stored returns the data of the stream orders, in order of seq.
func (s *shell) stored() (data []string) {
	state, ok := s.srv.Stream("orders")
	require.True(s.t, ok)
	for _, m := range state.Messages {
		data = append(data, m.Data)
	}
	return data
}

// requireOnce requires that the lines of inputFile are stored once each, and those of each key in their order.
func (s *shell) requireOnce(n int) {
	s.t.Helper()
	last := map[int]int{}
	all := s.stored()
	require.Len(s.t, all, n)
	for _, data := range all {
		var i int
		_, err := fmt.Sscanf(data, `{"n":%d}`, &i)
		require.NoError(s.t, err)
		require.Equal(s.t, i, last[i%7]+i%7, "the next of its key")
		last[i%7] = i + 7 - i%7
	}
}

func TestAFileIsSent(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.run("send orders --file " + s.inputFile(4500))
		s.requireOnce(4500)
		require.Equal(t, 5, s.srv.Count(sequintest.Send), "batches of 1000")
		s.run("send orders --file " + s.inputFile(2) + " --json")
		require.Len(t, s.stored(), 4502, "a file that is sent twice is stored twice")
		s.run("send orders --file nowhere")
		s.run("send orders --file " + s.home)
		s.run("send orders --file " + s.home + "/in.ndjson/below")
		s.run("send nope --file " + s.inputFile(2))
		s.run("send orders key data --file " + s.inputFile(2))
		s.run("send orders --file - --rate=-1")
		s.runArgs("send", "orders", "--file", "-", "--key", "{{.id")
		s.in = `{"id":12345678,"sub":{"x":"y"}}` + "\n" + `{"sub":1}` + "\n\n" + `[1]`
		s.runArgs("send", "orders", "--file", "-", "--key", "orders.{{.id}}.{{.sub.x}}")
		require.Equal(t, `{"id":12345678,"sub":{"x":"y"}}`, s.stored()[4502])
		s.run("messages orders --newest --limit 1")
		s.in = `{"key":"a","data":"text","seq":1}` + "\n" + `{"key":"a b","data":1}` + "\n" + `{"data":1}` + "\n" + `{"key":"a"}` + "\n" + "no JSON\n" + `{"key":"b","data":null}`
		s.run("send orders --file - --refused " + filepath.Join(s.home, "refused"))
		refused, err := os.ReadFile(filepath.Join(s.home, "refused"))
		require.NoError(t, err)
		s.transcript.Write(refused)
		s.golden("send_file")
	})
}

func TestTheServersRefusalsAreFoundAndTheOthersSent(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"no sevens"}`, Match: func(r *sequintest.Request) bool {
			return strings.Contains(string(r.Body), `{\"n\":777}`)
		}})
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", s.inputFile(2000)))
		require.Contains(t, s.errors, "line 778: ")
		require.Contains(t, s.errors, "no sevens")
		require.Contains(t, s.errors, "1 line could not be sent, listed above")
		require.Equal(t, "sent 1999 messages of 2000 lines\n", s.out)
		require.Len(t, s.stored(), 1999)
	})
}

func TestAFeedThatIsRefusedAltogetherGivesUp(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.in = strings.Repeat("{}\n", 100_000)
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", "-"))
		require.Contains(t, s.errors, "every line so far is refused")
		require.Equal(t, 21, strings.Count(s.errors, "\n"), "20 lines, and the error")
	})
}

// stopSend sends a file, presses ctrl-C so many times when a request meets the fault, and returns what the command prints.
func (s *shell) stopSend(file string, fault sequintest.Fault, presses int, flags ...string) string {
	s.t.Helper()
	slow := s.srv.Fault(fault)
	defer slow.Remove()
	wait := s.start(append([]string{"send", "orders", "--file", file}, flags...)...)
	require.NoError(s.t, slow.Wait(s.t.Context(), 1))
	for range presses {
		s.interrupt()
	}
	code, text := wait()
	require.Equal(s.t, cli.ExitFailed, code)
	return text
}

func TestASendGoesOnAfterCtrlC(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(9500)
		text := s.stopSend(file, sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 3}, 1)
		require.Contains(t, text, "sent 4000 messages of 4000 lines")
		require.Contains(t, text, "stopped after line 4000 of "+file+": the same command goes on there")
		require.Len(t, s.stored(), 4000, "what was in flight is finished")
		require.Zero(t, s.exec("send", "orders", "--file", file), s.errors)
		require.Contains(t, s.errors, "going on after line 4000")
		require.Equal(t, "sent 9500 messages of 9500 lines\n", s.out)
		s.requireOnce(9500)
	})
}

// The second signal cuts off a request that the server has carried out. The next run sends its batch again with the same key.
func TestABatchThatIsCutOffIsStoredOnce(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(3000)
		began := time.Now()
		s.stopSend(file, sequintest.Fault{Op: sequintest.Send, DelayAfter: time.Hour, Skip: 1}, 2)
		require.Zero(t, time.Since(began), "the second signal does not wait for an answer")
		require.Len(t, s.stored(), 2000)
		require.Zero(t, s.exec("send", "orders", "--file", file), s.errors)
		require.Contains(t, s.errors, "going on after line 1000")
		s.requireOnce(3000)
	})
}

// A run with another --rate keeps the batches of the first one, since their keys would differ.
func TestABatchThatIsCutOffIsStoredOnceAlsoWithAnotherRate(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(100)
		s.stopSend(file, sequintest.Fault{Op: sequintest.Send, DelayAfter: time.Hour, Skip: 1}, 2, "--rate", "50")
		require.Len(t, s.stored(), 10)
		require.Zero(t, s.exec("send", "orders", "--file", file), s.errors)
		require.Contains(t, s.errors, "going on after line 5")
		s.requireOnce(100)
	})
}

// The same file may be sent to another place, or with other keys.
func TestAnotherSendOfTheFileBeginsWithTheFirstLine(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		require.Zero(t, s.exec("stream", "add", "prices"))
		file := s.inputFile(3000)
		s.stopSend(file, sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 1}, 1)
		for _, other := range [][]string{{"prices"}, {"orders", "--key", "k.{{.data.n}}"}, {"orders", "--url", s.srv.URL + "/"}} {
			require.Zero(t, s.exec(append([]string{"send", "--file", file}, other...)...))
			require.Empty(t, s.errors, other)
			require.Equal(t, "sent 3000 messages of 3000 lines\n", s.out)
		}
		require.Zero(t, s.exec("send", "orders", "--file", file))
		require.Contains(t, s.errors, "going on after line 2000")
	})
}

func TestAPositionThatCannotBeSavedIsReported(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(9500)
		dir := filepath.Join(s.home, ".local", "state", "sequin", "sends")
		noDirectory := func() {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}
		for _, interrupted := range []bool{true, false} {
			slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 3})
			wait := s.start("send", "orders", "--file", file)
			require.NoError(t, slow.Wait(t.Context(), 1))
			synctest.Wait() // until the position is saved
			noDirectory()
			if interrupted {
				s.interrupt()
			}
			code, text := wait()
			require.Equal(t, cli.ExitFailed, code)
			require.Equal(t, 1, strings.Count(text, "cannot save how far the file is sent"), text)
			require.Contains(t, text, "stopped after line")
			require.NotContains(t, text, "goes on there")
			slow.Remove()
			require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", file))
			require.NotContains(t, s.out, "sent", "nothing is sent that a later run would send again")
			require.NoError(t, os.Remove(dir))
		}
	})
}

func TestAFileThatHasChangedIsNotSentOn(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(3000)
		down := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 409, Body: `{"summary":"full"}`, Skip: 2})
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", file))
		require.Contains(t, s.errors, "full")
		require.Contains(t, s.errors, "stopped after line 2000 of "+file)
		down.Remove()
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		text[8]++
		require.NoError(t, os.WriteFile(file, text, 0o600))
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", file))
		require.Contains(t, s.errors, "the file has changed since a part of it was sent: send it from the beginning with --restart")
		require.Zero(t, s.exec("send", "orders", "--file", file, "--restart"))
		require.Equal(t, "sent 3000 messages of 3000 lines\n", s.out)
		require.Len(t, s.stored(), 5000)
	})
}

func TestASendWaitsForAServerThatComesBack(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(5000)
		gate := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 2, Count: 1})
		wait := s.start("send", "orders", "--file", file)
		require.NoError(t, gate.Wait(t.Context(), 1))
		s.srv.Down()
		time.Sleep(40 * time.Second)
		s.srv.Up()
		code, text := wait()
		require.Zero(t, code, text)
		s.requireOnce(5000)

		gate = s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 2, Count: 1})
		wait = s.start("send", "orders", "--file", file)
		require.NoError(t, gate.Wait(t.Context(), 1))
		s.srv.Down()
		code, text = wait()
		require.Equal(t, cli.ExitUnreachable, code, text)
		require.Contains(t, text, "the same command goes on there")
		require.Contains(t, text, "2000 messages (40%), ", "progress")
	})
}

// With 97 a second no batch is sent in the moment in which the progress is shown.
func TestTheRateIsKept(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		began := time.Now()
		require.Zero(t, s.exec("send", "orders", "--file", s.inputFile(1000), "--rate", "97"))
		require.InDelta(t, 10.2, time.Since(began).Seconds(), 0.2)
		require.Equal(t, 112, s.srv.Count(sequintest.Send), "9 messages a request: some ten requests a second")
		require.Regexp(t, `(?m)^486 messages \(48%\), \d+ a second, after 5s$`, s.errors)
		s.requireOnce(1000)
	})
}

func TestATerminalShowsABar(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.terminal = true
		require.Zero(t, s.exec("send", "orders", "--file", s.inputFile(1000), "--rate", "97"))
		require.Contains(t, s.errors, "486 messages")
		require.Contains(t, s.errors, "█")
		require.True(t, strings.HasSuffix(s.errors, "\r"), "the bar is removed")
	})
}
