// Package command reads the arguments of the examples, reports wrong arguments once, with the usage, and runs them until a
// signal comes.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Command describes a program to its users.
type Command struct {
	Name  string
	Usage string // the arguments, on one line
	About string // what -h prints before the flags
	Files int    // the largest number of arguments beside the flags
}

// Parse parses args. After -h it prints the help and returns flag.ErrHelp. An unknown flag, and more arguments than the
// command takes, are refused as by Refuse.
func (c Command) Parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(io.Discard) // Refuse prints the error
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stderr, "%s\n\n%s\n", c.line(), c.About)
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return err
	case err != nil:
		return c.Refuse(stderr, err)
	case flags.NArg() > c.Files:
		return c.Refuse(stderr, fmt.Errorf("unexpected argument %q", flags.Arg(c.Files)))
	}
	return nil
}

// Refuse prints why the arguments are refused, and the usage. It returns the reason.
func (c Command) Refuse(stderr io.Writer, why error) error {
	fmt.Fprintf(stderr, "%s: %v\n%s; -h explains them\n", c.Name, why, c.line())
	return why
}

func (c Command) line() string { return fmt.Sprintf("usage: %s %s", c.Name, c.Usage) }

// ExitCode is the exit code after Parse: 0 without an error and after -h, and 2 for wrong arguments.
func ExitCode(err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	return 2
}

// Run calls run with a ctx that ends with ctrl-C or SIGTERM. It prints the error, if there is one, and returns the exit code.
func (c Command) Run(stderr io.Writer, run func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", c.Name, err)
		return 1
	}
	return 0
}
