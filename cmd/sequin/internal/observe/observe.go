// Package observe shows in a terminal what happens on a server: its streams, their consumers, what is stuck, and messages.
//
// A Model has a stack of screens. The one on top is shown, and asked for again every few seconds. A screen asks the server in a
// command of Bubble Tea, on a goroutine of its own, and shows what it was answered in Update: nothing is shared between the two.
package observe

import (
	"context"
	"io"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// Config says what is observed.
type Config struct {
	Client  *sequin.Client
	Watcher *overview.Watcher
	URL     string           // shown to people
	Every   time.Duration    // how often the server is asked
	Now     func() time.Time // default time.Now
}

// Run shows the server until the user quits or ctx ends. env is the environment, of which TERM, NO_COLOR and their like count.
func Run(ctx context.Context, cfg Config, in io.Reader, out io.Writer, env []string) error {
	_, err := tea.NewProgram(New(ctx, cfg), tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithEnvironment(env),
		tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil {
		return nil // a signal is a way to quit
	}
	return err
}

// questionTimeout is how long a question to the server may take. The screen shows then that it does not answer, and what it said
// last.
const questionTimeout = 10 * time.Second

// patience is how long a question may go without an answer before the screen says so.
const patience = 3 * time.Second

// New returns the model. Questions end with ctx.
func New(ctx context.Context, cfg Config) *Model {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Model{ctx: ctx, cfg: cfg, width: 80, height: 24, heard: cfg.Now(), filter: newInput("/", "")}
	m.stack = []screen{newStreamsScreen(m)}
	return m
}
