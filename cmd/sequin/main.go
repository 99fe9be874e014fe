// Sequin runs a Sequin streams server that keeps its messages in a directory, checks and repairs such directories, and is a
// client of such servers.
//
//	sequin serve                       runs the server
//	sequin check DIR                   checks the data directory of a stopped server
//	sequin repair DIR --to NEW         saves what can be read of a damaged one
//	sequin backup, restore             copies a data directory, and copies it back
//	sequin copy                        copies streams between directories and Postgres databases
//	sequin stream ls|add|info|edit|purge|rm
//	sequin consumer ls|add|info|edit|rm
//	sequin send, receive, ack, nack    sends messages, also those of a file, receives and settles them
//	sequin messages, peek              lists messages without leasing them
//	sequin redrive                     sends dead letters back
//	sequin migrate up|status           makes the tables of a Postgres database
//	sequin doctor                      tests the connection to a server, or a database
//	sequin observe                     shows what happens on a server, in a terminal
//	sequin bench                       measures a server
//	sequin context add|use|ls|rm       keeps the URLs of servers under names
//	sequin version                     prints the version
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

func main() {
	// Two signals are kept: the first stops the server, and the second ends the process at once.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(run(os.Args[1:], world{
		in: os.Stdin, out: os.Stdout, errors: os.Stderr, lookup: os.LookupEnv, signals: signals, hangups: hangups, now: time.Now,
		terminal: term.IsTerminal(int(os.Stderr.Fd())),
	}))
}

// hangups returns the SIGHUP signals from now on. Only a command that calls it outlives its terminal.
func hangups() <-chan os.Signal {
	signals := make(chan os.Signal, 1) // two that have not been seen yet are as good as one
	signal.Notify(signals, syscall.SIGHUP)
	return signals
}

// world is what a command uses of its process, so that tests can replace it.
type world struct {
	in          io.Reader
	out, errors io.Writer
	lookup      func(string) (string, bool) // of an environment variable
	signals     <-chan os.Signal            // that stop the command
	hangups     func() <-chan os.Signal     // that make a server read its files again
	now         func() time.Time
	terminal    bool              // errors is a terminal
	transport   http.RoundTripper // to the server; nil for the network
}

// run runs the command of the arguments and returns the exit code.
func run(args []string, w world) int {
	root := newRoot(w)
	root.SetArgs(args)
	root.SetOut(w.out)
	root.SetErr(w.errors)
	err := cli.OfClient(root.Execute())
	if err != nil {
		fmt.Fprintln(w.errors, cli.Line(err))
	}
	return cli.ExitCode(err)
}
