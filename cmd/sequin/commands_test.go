package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestStreams(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		s.run("stream ls")
		s.run("stream ls --json")
		s.run("stream add orders --retain-up-to 1000 --max-storage-gb 2 --retain-at-least 10")
		s.run("stream add orders")
		s.run("stream add orders --ensure --retain-up-to 1000")
		s.run("stream add orders --ensure --one-message-per-key")
		time.Sleep(3 * time.Hour)
		s.run("stream add prices --one-message-per-key --process-unmodified --json")
		s.runArgs("send", "prices", "prices.eur", `{"usd":1.1}`)
		s.run("stream ls")
		s.run("stream ls --json")
		s.run("stream info orders")
		s.run("stream info orders --json")
		s.run("stream info nope")
		s.run("stream edit orders --retain-up-to 1000 --one-message-per-key=false")
		s.run("stream edit orders --retain-up-to 2000 --max-storage-gb 2 --process-unmodified")
		s.run("stream edit prices --retain-at-least 5 --one-message-per-key=false --json")
		s.run("stream edit orders")
		s.run("stream edit nope --retain-up-to 5")
		s.run("stream rm prices")
		s.run("stream rm prices --force")
		s.run("stream rm orders --json")
		s.run("stream rm orders")
		s.run("stream add orders --retain-up-to=-1")
		s.run("stream add")
		s.run("stream nope")
		s.golden("stream")
	})
}

func TestConsumers(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		s.run("stream add orders --json")
		s.run("consumer ls orders")
		s.run("consumer ls nope")
		s.run("consumer add orders billing --filter orders.> --ack-wait 1m --max-deliver 5")
		s.run("consumer add orders all --json")
		s.run("consumer add orders all --ensure --filter orders.*")
		s.run("consumer add orders bad --filter ..")
		s.run("consumer add orders bad --max-deliver 0")
		s.run("consumer ls orders")
		s.run("consumer ls orders --json")
		s.run("consumer edit orders billing --max-deliver unlimited --max-ack-pending 7 --max-waiting 3 --ack-wait 2s")
		s.run("consumer edit orders billing --max-ack-pending 8 --json")
		s.run("consumer edit orders billing")
		s.run("consumer edit orders billing --ack-wait 0s")
		s.run("consumer add orders bad --max-waiting 0")
		s.run("consumer info orders billing")
		s.run("consumer info orders nope")
		s.run("consumer rm orders billing")
		s.run("consumer rm orders billing")
		s.run("consumer rm orders all --json")
		for range 3 {
			require.Zero(t, s.exec("send", "orders", "orders.1", "x"))
		}
		s.run("consumer add orders late --start end")
		s.run("consumer add orders late --start 2 --ensure")
		s.run("consumer add orders third --start 3 --json")
		s.run("receive orders third")
		s.run("consumer add orders today --start 2000-01-01T00:00:00Z")
		s.run("consumer add orders bad --start tomorrow")
		s.run("consumer edit orders late --start 1")
		s.run("consumer edit orders late --filter orders.> --ack-wait 5s")
		s.golden("consumer")
	})
}

func TestStreamsArePurged(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		for _, key := range []string{"a.1", "a.2", "b.1", "b.2", "a.3"} {
			require.Zero(t, s.exec("send", "orders", key, "x"))
		}
		s.run("stream purge orders")
		s.run("stream purge orders --all --before 3")
		s.run("stream purge orders --before 0")
		s.run("stream purge nope --all")
		s.run("stream purge orders --before 5 --key-pattern a.*")
		s.run("messages orders")
		s.run("stream purge orders --key-pattern b.2 --json")
		s.run("messages orders")
		s.run("stream purge orders --all")
		s.run("messages orders")
		s.run("consumer ls orders")
		s.golden("purge")
	})
}

func TestListsAreRead(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		for _, key := range []string{"k.1", "k.2", "k.3", "k.4", "k.5"} {
			require.Zero(t, s.exec("send", "orders", key, "x"))
		}
		s.run("messages orders --after 1 --limit 2")
		s.run("messages orders --after 3 --limit 2")
		s.run("messages orders --before 4 --newest --limit 2")
		s.run("messages orders --after 2 --before 4")
		s.run("messages orders --after -1")
		s.run("messages orders --follow --before 4")
		s.run("peek orders billing --after 4")
		s.golden("pages")
	})
}

// lastAckIDs returns the ack ids of the latest receive.
func (s *shell) lastAckIDs() (ids []string) {
	requests := s.srv.Requests(sequintest.Receive)
	for _, d := range requests[len(requests)-1].Deliveries() {
		ids = append(ids, d.AckID)
	}
	return ids
}

func TestMessages(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.run("messages orders")
		s.run("peek orders billing")
		s.run("receive orders billing")
		s.runArgs("send", "orders", "orders.1", `{"qty":4}`)
		s.runArgs("send", "orders", "orders.2", `{"qty":5}`, "--json")
		s.in = "a\x1b[31m\nb"
		s.run("send orders notes.1 -")
		s.run("send orders bad..key x")
		s.run("send orders key")
		s.run("send orders key x --rate 5")
		s.run("send nope key x")
		s.run("messages orders")
		s.run("messages orders --newest --limit 1 --json")
		s.run("messages orders --key-pattern orders.>")
		s.run("messages orders --limit 10001")
		s.run("messages orders --limit 0")
		s.run("messages orders --follow --newest")
		s.run("messages nope")
		s.run("receive orders billing -n 2")
		ids := s.lastAckIDs()
		s.run("peek orders billing")
		s.run("ack orders billing " + ids[0])
		s.run("nack orders billing --json " + ids[1])
		s.run("ack orders billing")
		s.run("ack orders billing nope")
		s.run("ack orders nope " + ids[0])
		s.run("peek orders billing --json")
		s.run("receive orders billing --ack --json")
		s.run("receive orders billing --wait 1s")
		s.run("receive orders billing --wait 1ms")
		s.run("peek orders billing")
		s.run("receive orders nope")
		require.Zero(t, s.exec("send", "orders", "later.1", "x"))
		require.Zero(t, s.exec("receive", "orders", "billing"))
		s.run("nack orders billing --delay 169h " + s.lastAckIDs()[0])
		s.run("nack orders billing --delay 90s " + s.lastAckIDs()[0])
		s.run("peek orders billing")
		s.golden("messages")
	})
}

func TestTheCommandsWorkWithTheServerOfAugust2024(t *testing.T) {
	inShell(t, sequintest.Config{Compat: server.Aug2024}, func(t *testing.T, s *shell) {
		s.run("stream add orders")
		s.run("consumer add orders billing")
		s.runArgs("send", "orders", "orders.1", `{"qty":4}`)
		s.run("stream ls")
		began := time.Now()
		s.run("receive orders billing --wait 5s")
		require.Zero(t, time.Since(began), "there is a message")
		id := s.lastAckIDs()[0]
		s.run("receive orders billing --wait 5s --json")
		require.Equal(t, 5*time.Second, time.Since(began))
		s.run("nack orders billing --delay 1m " + id)
		s.run("ack orders billing " + id)
		s.run("peek orders billing")
		s.run("messages orders")
		s.in = `{"key":"a","data":1}` + "\n" + `{"key":"a","data":2}` + "\n"
		s.run("send orders --file -")
		s.run("messages orders --key-pattern a")
		s.run("send orders b x --header trace=1")
		s.in = `{"key":"b","data":1,"headers":{"trace":"1"}}`
		s.run("send orders --file -")
		s.run("stream edit orders --one-message-per-key")
		s.run("stream edit orders --retain-up-to 5")
		s.run("stream purge orders --all")
		s.run("consumer add orders late --start end")
		s.run("messages orders --after 1")
		s.run("messages orders --after 1 --follow")
		s.golden("aug2024")
	})
}

func TestReceiveFollowsAndAcksUntilCtrlC(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		wait := s.start("receive", "orders", "billing", "--follow", "--ack", "--json")
		for _, data := range []string{"one", "two"} {
			time.Sleep(time.Minute)
			require.Zero(t, s.exec("send", "orders", "k", data))
		}
		time.Sleep(time.Minute)
		s.srv.Down()
		time.Sleep(time.Minute)
		s.srv.Up()
		time.Sleep(time.Minute)
		require.Zero(t, s.exec("send", "orders", "k", "three"))
		s.interrupt()
		code, out := wait()
		require.Zero(t, code)
		for _, data := range []string{"one", "two", "three"} {
			require.Equal(t, 1, strings.Count(out, `"data":"`+data+`"`), out)
		}
		require.Contains(t, out, ": trying again\n")
		require.Zero(t, s.exec("peek", "orders", "billing"))
		require.Equal(t, "no messages that are not acked\n", s.out)
	})
}

// The library names its own fields; who types a command knows its flags.
func TestAWrongValueIsToldByItsFlag(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		for args, want := range map[string]string{
			"receive orders billing -n 1001":                "sequin: --number is 1001, must be 1 to 1000\n",
			"receive orders billing --wait 1ms":             "sequin: --wait is 1ms, must be whole milliseconds from 500ms to 5m0s\n",
			"messages orders --limit 10001":                 "sequin: --limit is 10001, must be 1 to 10000\n",
			"peek orders billing --limit 10001":             "sequin: --limit is 10001, must be 1 to 10000\n",
			"consumer add orders other --ack-wait 1500us":   "sequin: --ack-wait is 1.5ms, must be whole milliseconds\n",
			"consumer edit orders billing --ack-wait 100us": "sequin: --ack-wait is 100µs, must be whole milliseconds\n",
		} {
			require.Equal(t, cli.ExitUsage, s.exec(strings.Fields(args)...), args)
			require.Equal(t, want, s.errors, args)
		}
	})
}

// Ctrl-C comes after the messages are printed. Without their acks they would be printed again by the next receive.
func TestWhatIsPrintedIsAckedAlsoAfterCtrlC(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		require.Zero(t, s.exec("send", "orders", "k", "x"))
		slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: time.Second})
		wait := s.start("receive", "orders", "billing", "--ack", "--follow")
		require.NoError(t, slow.Wait(t.Context(), 1))
		s.interrupt()
		code, _ := wait()
		require.Zero(t, code)
		require.Zero(t, s.exec("peek", "orders", "billing"))
		require.Equal(t, "no messages that are not acked\n", s.out)
	})
}

// All pages that are there come at once: one a second would be too slow.
func TestMessagesFollowsPagesWithoutAPause(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		for range 9 {
			require.Zero(t, s.exec("send", "orders", "k", "x"))
		}
		wait := s.start("messages", "orders", "--follow", "--json", "--limit", "2", "--after", "1")
		s.interrupt()
		_, out := wait()
		require.Equal(t, 8, strings.Count(out, `"seq":`))
	})
}

func TestMessagesFollowsUntilCtrlC(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		require.Zero(t, s.exec("send", "orders", "k", "before"))
		wait := s.start("messages", "orders", "--follow", "--json", "--limit", "2")
		time.Sleep(time.Minute)
		for range 25 { // more than a list of 2 and of 20
			require.Zero(t, s.exec("send", "orders", "k", "after"))
		}
		time.Sleep(time.Minute)
		s.interrupt()
		code, out := wait()
		require.Zero(t, code)
		require.Equal(t, 1, strings.Count(out, `"before"`), out)
		require.Equal(t, 25, strings.Count(out, `"after"`), out)
		require.Equal(t, 26, strings.Count(out, "\n"))
		require.Less(t, strings.Index(out, `"seq":2,`), strings.Index(out, `"seq":3,`))
	})
}

// The pages of a list are two messages. None of the messages is left out, however many come at once.
func TestMessagesFollowsFromASeq(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		send := func(n int) {
			for range n {
				require.Zero(t, s.exec("send", "orders", "k", "x"))
			}
		}
		send(5)
		wait := s.start("messages", "orders", "--follow", "--json", "--limit", "2", "--after", "1")
		time.Sleep(time.Minute)
		s.srv.Down()
		time.Sleep(time.Minute)
		s.srv.Up()
		send(7)
		time.Sleep(time.Minute)
		s.interrupt()
		code, out := wait()
		require.Zero(t, code)
		require.Contains(t, out, ": trying again\n")
		last := -1
		for seq := 2; seq <= 12; seq++ {
			at := strings.Index(out, fmt.Sprintf(`"seq":%d,`, seq))
			require.Greater(t, at, last)
			last = at
		}
		require.Equal(t, 11, strings.Count(out, `"seq":`))
	})
}

// A program that reads pages begins with 0.
func TestMessagesFollowsFromTheFirstMessageAfter0(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		for range 5 {
			require.Zero(t, s.exec("send", "orders", "k", "x"))
		}
		require.Zero(t, s.exec("messages", "orders", "--json", "--limit", "1", "--after", "0"))
		require.Contains(t, s.out, `"seq":1,`)
		wait := s.start("messages", "orders", "--follow", "--json", "--limit", "2", "--after", "0")
		time.Sleep(time.Minute)
		s.interrupt()
		code, out := wait()
		require.Zero(t, code)
		require.Equal(t, 5, strings.Count(out, `"seq":`))
	})
}

func TestRedriveSendsDeadLettersBack(t *testing.T) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		for _, stream := range []string{"orders", "dead"} {
			require.Zero(t, s.exec("stream", "add", stream))
		}
		require.Zero(t, s.exec("consumer", "add", "dead", "redriver"))
		require.Zero(t, s.exec("consumer", "add", "orders", "all", "--max-deliver", "1"))
		s.run("redrive dead redriver")
		require.Zero(t, s.exec("send", "dead", "dead.1", `{"stream":"orders","consumer":"billing","key":"orders.1","data":"four","seq":1}`))
		s.run("redrive dead redriver --json")
		require.Zero(t, s.exec("send", "dead", "dead.2", `{"stream":"nope","consumer":"billing","key":"orders.1","data":"four","seq":1}`))
		s.run("redrive dead redriver")
		s.run("redrive dead nope")
		s.run("redrive orders all")
		s.run("receive orders all")
		s.run("messages orders")
		s.golden("redrive")
	})
}

func TestAnInterruptEndsACommandThatWaits(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		wait := s.start("receive", "orders", "billing", "--wait", "5m")
		s.interrupt()
		code, out := wait()
		require.Equal(t, cli.ExitFailed, code)
		require.Equal(t, "sequin: stopped by a signal\n", out)
	})
}

func TestNamesAreCompleted(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		require.Zero(t, s.exec("context", "add", "here", "--url", s.srv.URL))
		for line, want := range map[string]string{
			"receive |":              "orders",
			"receive orders |":       "billing",
			"receive nope |":         "",
			"receive a b |":          "",
			"stream info |":          "orders",
			"stream purge |":         "orders",
			"stream edit |":          "orders",
			"consumer edit orders |": "billing",
			"bench publish |":        "consume\nend-to-end",
			"send |":                 "orders",
			"consumer rm orders |":   "billing",
			"context use |":          "here",
			"stream add |":           "",
			"peek --context |":       "here",
			"observe --context |":    "here",
			"serve --compat |":       "documented\naug2024",
			"serve --log-level |":    "debug\ninfo\nwarn\nerror",
			"serve --log-format |":   "text\njson",
		} {
			args := append([]string{"__complete"}, strings.Fields(line)...)
			args[len(args)-1] = ""
			require.Zero(t, s.exec(args...))
			require.Equal(t, want, strings.TrimSpace(strings.Split(s.out, ":")[0]), line)
		}
		s.srv.Down()
		require.Zero(t, s.exec("__complete", "receive", ""))
		require.Equal(t, ":4\n", s.out)
		require.Zero(t, s.exec("completion", "bash"))
		require.Contains(t, s.out, "__start_sequin")
	})
}

func TestHeadersAreSentAndShown(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		s.run("send orders k.1 x --header trace=7f3a --header a=b=c")
		s.run("send orders k.2 y")
		s.run("send orders k x --header trace")
		s.run("send orders k x --header trace=1 --header trace=2")
		s.runArgs("send", "orders", "k", "x", "--header", "a b=1")
		s.run("send orders --file - --header a=b")
		s.in = `{"key":"k.3","data":"z","headers":{"trace":"\u001b[31m"}}` + "\n" + `{"key":"k.4","data":"z","headers":{"trace":1}}` + "\n" +
			`{"key":"k.5","data":"z","headers":{"a b":"1"}}`
		s.run("send orders --file -")
		s.run("messages orders")
		s.run("messages orders --after 1 --limit 1")
		s.run("peek orders billing --limit 1")
		s.run("receive orders billing -n 1")
		s.run("receive orders billing -n 1 --json")
		require.Zero(t, s.exec("messages", "orders", "--json", "--limit", "1"))
		s.in = s.out
		require.Zero(t, s.exec("send", "orders", "--file", "-"), s.errors)
		s.run("messages orders --newest --limit 1 --json")
		s.golden("headers")
	})
}
