// Sequin runs a Sequin streams server that keeps its messages in a directory, and checks and repairs such directories.
//
//	sequin serve                  runs the server
//	sequin check DIR              checks the data directory of a stopped server
//	sequin repair DIR --to NEW    saves what can be read of a damaged one
//	sequin version                prints the version
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

func main() {
	// Two signals are kept: the first stops the server, and the second ends the process at once.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(run(os.Args[1:], world{
		out: os.Stdout, errors: os.Stderr, lookup: os.LookupEnv, signals: signals,
	}))
}

// world is what a command uses of its process, so that tests can replace it.
type world struct {
	out, errors io.Writer
	lookup      func(string) (string, bool) // of an environment variable
	signals     <-chan os.Signal
}

// run runs the command of the arguments and returns the exit code.
func run(args []string, w world) int {
	root := newRoot(w)
	root.SetArgs(args)
	root.SetOut(w.out)
	root.SetErr(w.errors)
	err := root.Execute()
	if err != nil {
		fmt.Fprintln(w.errors, cli.Line(err))
	}
	return cli.ExitCode(err)
}
