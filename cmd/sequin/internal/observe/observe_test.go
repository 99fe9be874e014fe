package observe

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// terminal drives a Model as Bubble Tea does, one message after the other, in virtual time.
type terminal struct {
	*testing.T
	srv     *sequintest.Server
	client  *sequin.Client
	metrics string // of the server; "" for none
	m       *Model
}

// inTerminal has a server with a stream "orders", which has a consumer "billing" and three messages.
func inTerminal(t *testing.T, cfg sequintest.Config, f func(x *terminal)) {
	synctest.Test(t, func(t *testing.T) {
		x := &terminal{T: t, srv: sequintest.NewServer(t, cfg)}
		var err error
		x.client, err = sequin.NewClient(sequin.Config{BaseURL: x.srv.URL, HTTPClient: x.srv.Client()})
		require.NoError(t, err)
		defer x.client.Close()
		_, err = x.client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		_, err = x.client.CreateConsumer(t.Context(), "orders", "billing", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		for i := range 3 {
			x.send(fmt.Sprint("eu.", i), fmt.Sprintf(`{"qty":%d}`, i))
		}
		watcher := overview.New(overview.Config{Client: x.client, Metrics: x.source, MinInterval: time.Millisecond})
		x.m = New(t.Context(), Config{Client: x.client, Watcher: watcher, URL: "http://server", Every: 2 * time.Second})
		x.refresh()
		f(x)
	})
}

func (x *terminal) source(context.Context, ...string) (io.ReadCloser, error) {
	if x.metrics == "" {
		return nil, overview.ErrNoMetrics
	}
	return io.NopCloser(strings.NewReader(x.metrics)), nil
}

func (x *terminal) send(key, data string) {
	x.Helper()
	_, err := x.client.SendMessage(x.Context(), "orders", key, data)
	require.NoError(x, err)
}

// do runs a command and what follows from it.
func (x *terminal) do(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case tea.BatchMsg:
		for _, c := range msg {
			x.do(c)
		}
	default:
		_, next := x.m.Update(msg)
		x.do(next)
	}
}

// refresh asks the server, as every tick does.
func (x *terminal) refresh() {
	time.Sleep(2 * time.Second)
	x.do(x.m.ask())
}

// press presses keys by their names.
func (x *terminal) press(keys ...string) {
	codes := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "down": tea.KeyDown, "up": tea.KeyUp, "tab": tea.KeyTab, "pgdown": tea.KeyPgDown, "end": tea.KeyEnd}
	for _, k := range keys {
		msg := tea.KeyPressMsg{Code: codes[k]}
		if msg.Code == 0 {
			msg = tea.KeyPressMsg{Code: []rune(k)[0], Text: k}
		}
		_, cmd := x.m.Update(msg)
		x.do(cmd)
	}
}

func (x *terminal) typeText(text string) {
	for _, r := range text {
		x.press(string(r))
	}
}

// screen returns what is shown, without colours. It checks that it fits.
func (x *terminal) screen() string {
	x.Helper()
	text := ansi.Strip(x.m.View().Content)
	lines := strings.Split(text, "\n")
	require.Len(x, lines, x.m.height, text)
	for _, l := range lines {
		require.LessOrEqual(x, ansi.StringWidth(l), x.m.width, "%q", l)
	}
	return text
}

func (x *terminal) shows(all ...string) {
	x.Helper()
	screen := x.screen()
	for _, text := range all {
		require.Contains(x, screen, text)
	}
}

func TestTheWayDownToAMessageAndBack(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.shows("streams", "http://server (no metrics)", "1 stream, 3 messages", "> orders", "IN/S")
		require.NotContains(t, x.screen(), "OUT/S")
		x.press("enter")
		x.shows("streams > orders", "> billing", "OLDEST", "FILTER")
		x.press("enter")
		x.shows("streams > orders > billing", "eu.0", "available", `{"qty":0}`, "available: not delivered yet; page 1, oldest first")
		x.press("down", "enter")
		x.shows("streams > orders > billing > eu.1", "billing              available", "{\n  \"qty\": 1\n}", "seq 2")
		x.press("esc", "esc", "m")
		x.shows("streams > orders > messages", "newest first")
		require.Less(t, strings.Index(x.screen(), "eu.2"), strings.Index(x.screen(), "eu.0"))
		x.press("o")
		require.Less(t, strings.Index(x.screen(), "eu.0"), strings.Index(x.screen(), "eu.2"))
		x.press("esc", "esc", "esc")
		x.shows("1 stream, 3 messages")
	})
}

// TestAnOlderMessageIsShownAsItIs opens the first of two messages of a key.
func TestAnOlderMessageIsShownAsItIs(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.send("eu.0", `{"qty":77}`)
		x.refresh()
		x.press("enter", "enter", "enter")
		x.shows("seq 1,", `"qty": 0`, "the newest of its key has seq 4", "billing              available")
	})
}

func TestMetricsAddColumns(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		tell := func(sent, delivered int) {
			labels := `{consumer="billing",stream="orders"}`
			x.metrics = "sequin_consumer_backlog_messages" + labels + " 1234567\nsequin_consumer_backlog_estimated" + labels + " 1\n" +
				"sequin_consumer_outstanding_messages" + labels + " 42\nsequin_consumer_oldest_unsettled_seconds" + labels + " 7200\n" +
				fmt.Sprintf("sequin_stream_sent_messages_total{stream=\"orders\"} %d\nsequin_stream_delivered_messages_total{stream=\"orders\"} %d\n", sent, delivered) +
				fmt.Sprintf("sequin_consumer_deliveries_total%s %d\nsequin_consumer_redeliveries_total%s %d\n", labels, delivered, labels, delivered/2)
		}
		tell(0, 0)
		x.refresh()
		tell(2000, 400)
		x.refresh()
		x.shows("OUT/S", "1000", "200", "1000/s in, 200/s out", "█")
		x.press("enter")
		tell(4000, 800)
		x.refresh()
		x.shows("BACKLOG", "~1.2M", "42", "2h", "50%")
	})
}

func TestTheServerOf2024HasFewerColumns(t *testing.T) {
	inTerminal(t, sequintest.Config{Compat: server.Aug2024}, func(x *terminal) {
		x.shows("release of 2024", "orders", "IN/S")
		x.press("down", "enter")
		x.shows("billing", "OLDEST", "ACK WAIT")
		require.NotContains(t, x.screen(), "BACKLOG")
		x.press("enter", "enter")
		x.shows(`"qty": 0`)
	})
}

func TestAFilterHidesTheOthers(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		_, err := x.client.CreateStream(x.Context(), "prices", sequin.StreamOptions{})
		require.NoError(t, err)
		x.refresh()
		x.press("/")
		x.typeText("pri")
		x.shows("/pri")
		x.press("enter")
		x.shows("> prices", "filter: pri")
		require.NotContains(t, x.screen(), "orders")
		x.press("esc")
		x.shows("orders", "prices")
		x.press("m", "/")
		x.typeText("eu.1")
		x.press("enter")
		x.shows("eu.1")
		require.NotContains(t, x.screen(), "eu.2")
		x.press("/")
		x.typeText("..")
		x.press("enter")
		x.shows("error: ", "pattern")
	})
}

func TestActionsAskBefore(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.press("t")
		x.shows("Send a message to orders", "test")
		x.press("enter", "enter")
		x.shows("sent test to orders", "4 messages")

		x.press("n")
		x.press("enter", "enter")
		x.shows("a stream needs a name")
		x.press("up")
		x.typeText("new")
		x.press("enter", "enter")
		x.shows("made stream new", "2 streams")
		x.press("up", "d")
		x.typeText("orders")
		x.press("enter")
		x.shows("type new to confirm")
		x.press("esc")
		x.shows("2 streams")
		x.press("d")
		x.typeText("new")
		x.press("enter")
		x.shows("deleted stream new", "1 stream,")

		x.press("p")
		x.press("tab")
		x.typeText("orders")
		x.press("enter")
		x.shows("removed 4 messages of orders", "0 messages")
	})
}

func TestConsumersAreMadeAndDeleted(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.press("enter", "n")
		x.typeText("audit")
		x.press("enter", "enter", "enter")
		x.shows("made consumer audit", "audit")
		x.press("end", "d")
		x.shows("Delete consumer audit of orders?")
		x.press("n")
		require.Len(t, x.consumers(), 2)
		x.press("d", "y")
		x.shows("deleted consumer audit")
		require.Len(t, x.consumers(), 1)
		x.press("r", "y")
		x.shows("error: ", "not a dead letter")
	})
}

func (x *terminal) consumers() []sequin.Consumer {
	x.Helper()
	all, err := x.client.ListConsumers(x.Context(), "orders")
	require.NoError(x, err)
	return all
}

func TestOnlyAMessageThatAProgramHasCanBeNacked(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.press("enter", "enter", "x")
		x.shows("error: only a message that is with a program can be nacked")
		got, err := x.client.ReceiveMessage(x.Context(), "orders", "billing")
		require.NoError(t, err)
		x.refresh()
		x.shows("delivered", "with a program, whose lease ends in 28s")
		x.press("x")
		x.shows("Nack eu.0, seq 1?")
		x.press("y")
		x.shows("nacked eu.0")
		again, err := x.client.ReceiveMessage(x.Context(), "orders", "billing")
		require.NoError(t, err)
		require.Equal(t, got.Seq, again.Seq)
		require.Equal(t, 2, again.DeliverCount)
	})
}

// TestTheErrorOfAnActionGoesWithItsScreen leaves the screen by each way, and filters it.
func TestTheErrorOfAnActionGoesWithItsScreen(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		for _, leave := range []string{"enter", "esc"} {
			x.press("enter", "enter", "x")
			x.shows("error: only a message")
			x.press(leave)
			require.NotContains(t, x.screen(), "error")
			x.press("esc", "esc", "esc", "s", "n", "esc")
			require.NotContains(t, x.screen(), "error")
		}
		x.press("enter", "enter", "x", "/")
		x.typeText("eu.1")
		x.press("enter")
		x.shows("filter: eu.1")
		x.press("x")
		x.shows("error: only a message")
		x.press("esc")
		require.NotContains(t, x.screen(), "error")
	})
}

// TestAMessageWhoseLeaseEndedSaysSo receives without an ack.
func TestAMessageWhoseLeaseEndedSaysSo(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		_, err := x.client.ReceiveMessage(x.Context(), "orders", "billing")
		require.NoError(t, err)
		time.Sleep(2*time.Minute + 10*time.Second)
		x.press("enter", "enter")
		x.shows("available: delivered once, last 2 min ago, and not settled; page 1")
		x.press("enter")
		x.shows("billing              available: delivered once, last 2 min ago, and not settled\n")
		x.press("esc", "down")
		x.shows("available: not delivered yet;")
	})
}

// TestHostileDataIsShownHarmlessly has data with escape sequences, marks of direction, and lines longer than the terminal.
func TestHostileDataIsShownHarmlessly(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.send("evil", "\x1b]0;title\x07\x1b[2J\u202egnp\u200b\r\n"+strings.Repeat("x", 300)+"\t漢")
		x.press("m")
		harmless := func() {
			content := x.m.View().Content
			for _, bad := range []string{"\x1b]", "\x1b[2J", "\x07", "\u202e", "\u200b", "\r"} {
				require.NotContains(t, content, bad)
			}
			x.screen()
		}
		harmless()
		x.press("enter")
		harmless()
		x.shows(`\x1b]0;title\x07\x1b[2J\u202egnp\u200b\x0d`, "漢")
		x.send("evil", strings.Repeat("long ", 50_000))
		x.press("esc")
		x.refresh()
		x.press("up", "enter")
		harmless()
		x.press("end")
		x.shows("... and 150 kB more")
	})
}

func TestTheCursorStaysWithItsRow(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.press("m", "down")
		x.shows(">          2 eu.1")
		x.send("eu.9", "{}")
		x.refresh()
		x.shows(">          2 eu.1")
	})
}

func TestAServerThatDoesNotAnswerIsSaidToSo(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		answered := time.Now()
		x.srv.Down()
		x.refresh()
		x.shows("no answer for "+short(time.Since(answered))+": sequin: cannot reach", "http://server (no answer)")
		x.refresh()
		x.shows("no answer for "+short(time.Since(answered))+": ", "> orders")
		x.press("enter")
		x.shows("streams > orders", "no answer for "+short(time.Since(answered))+": ")
		x.press("esc")
		x.srv.Up()
		x.refresh()
		require.NotContains(t, x.screen(), "no answer")
	})
}

// TestAQuestionThatIsNotAnsweredIsSaidSoSoon has a server that takes a question and is silent.
func TestAQuestionThatIsNotAnsweredIsSaidSoSoon(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.metrics = "sequin_stream_sent_messages_total{stream=\"orders\"} 3\n"
		x.refresh()
		time.Sleep(2 * time.Second)
		answer := x.m.ask()
		time.Sleep(3 * time.Second)
		x.shows(" ms)")
		time.Sleep(time.Second)
		x.shows("no answer for 6s\n", "http://server (no answer)", "> orders")
		require.Nil(t, x.m.ask(), "it is asked once at a time")
		x.do(answer)
		x.shows(" ms)")
		require.NotContains(t, x.screen(), "no answer")
	})
}

// TestAnotherScreenDoesNotWaitForTheAnswerOfTheFirst leaves a screen before its answer has come.
func TestAnotherScreenDoesNotWaitForTheAnswerOfTheFirst(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		first := x.m.ask()
		time.Sleep(2 * time.Second)
		_, second := x.m.Update(tea.KeyPressMsg{Code: tea.KeyEnter})
		time.Sleep(2 * time.Second)
		x.shows("no answer for 4s\n")
		x.do(first)
		require.NotContains(t, x.screen(), "no answer")
		time.Sleep(4 * time.Second)
		x.shows("no answer for 4s\n")
		x.do(second)
		x.shows("> billing")
		require.NotContains(t, x.screen(), "no answer")
	})
}

func TestManyRowsScrollAndSmallTerminalsWork(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		for i := range 150 {
			x.send(fmt.Sprintf("k.%03d", i), "{}")
		}
		x.press("m", "pgdown")
		x.shows("k.131")
		x.press("end")
		x.shows("k.050")
		x.press("]")
		x.shows("page 2", "k.049")
		x.press("[")
		x.shows("page 1")
		for _, size := range [][2]int{{40, 10}, {20, 5}, {200, 60}} {
			x.m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			x.screen()
		}
	})
}

func TestHelpListsTheKeys(t *testing.T) {
	inTerminal(t, sequintest.Config{}, func(x *terminal) {
		x.press("?")
		x.shows("purge", "remove the filter, or go back", "quit")
		x.press("?")
		x.shows("> orders")
		_, cmd := x.m.Update(tea.KeyPressMsg{Code: 'q', Text: "q"})
		require.Equal(t, tea.QuitMsg{}, cmd())
	})
}
