package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// options are the arguments.
type options struct {
	name     string
	every    time.Duration
	limit    time.Duration // how long the command may run
	lease    time.Duration
	attempts int
	grace    time.Duration // how long a stop waits for the command
	command  []string
}

// parse reads the arguments. It refuses what would fail after the consumer is created, and a 0 that the library would replace by a
// default.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("cron-worker", flag.ContinueOnError)
	flags.StringVar(&o.name, "name", "", "the `NAME` of the job; by default that of the command, with a dash for what a name cannot have")
	flags.DurationVar(&o.every, "every", time.Minute, "the `TIME` from one run to the next")
	flags.DurationVar(&o.limit, "limit", time.Hour, "the `TIME` after which a run is ended")
	flags.DurationVar(&o.lease, "lease", 30*time.Second, "the `TIME` after which another process starts over when this one is gone; the process that starts last sets it for all")
	flags.IntVar(&o.attempts, "attempts", 3, "the `NUMBER` of attempts at each run")
	flags.DurationVar(&o.grace, "grace", 10*time.Second, "the `TIME` that a stop gives a run")
	if err := cron.Parse(flags, args, stderr); err != nil {
		return o, err
	}
	if o.command = flags.Args(); o.name == "" && len(o.command) > 0 {
		o.name = nameOf(o.command[0])
	}
	if err := o.check(); err != nil {
		return o, cron.Refuse(stderr, err)
	}
	return o, nil
}

// minLease is the shortest lease that a Subscriber works with.
const minLease = 100 * time.Millisecond

func (o options) check() error {
	switch {
	case len(o.command) == 0:
		return errors.New("a command is needed")
	case o.name == "":
		return fmt.Errorf("the command %q gives no name: set -name", o.command[0])
	case strings.ContainsFunc(o.name, notInNames) || len(o.name) > maxName:
		return fmt.Errorf("-name is %q, must be at most %d letters, digits, underscores and dashes", o.name, maxName)
	case o.every < time.Second:
		return fmt.Errorf("-every is %v, must be at least 1s", o.every)
	case o.limit <= 0:
		return fmt.Errorf("-limit is %v, must be more than 0", o.limit)
	case o.lease < minLease || o.lease%time.Millisecond != 0:
		return fmt.Errorf("-lease is %v, must be at least %v, in whole milliseconds", o.lease, minLease)
	case o.attempts < 1:
		return fmt.Errorf("-attempts is %d, must be at least 1", o.attempts)
	case o.grace <= 0:
		return fmt.Errorf("-grace is %v, must be more than 0", o.grace)
	}
	return nil
}

// maxName leaves room for a dot and the 11 digits of a time in the keys of ticks, which have at most 255 characters.
const maxName = 255 - len(".") - 11

// notInNames reports whether the name of a consumer, and so that of a job, cannot have r.
func notInNames(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// nameOf returns the name of a job for a command: the base of its path, with a dash for each character that a name cannot have.
// It is empty if nothing else is left.
func nameOf(command string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if notInNames(r) {
			return '-'
		}
		return r
	}, filepath.Base(command)), "-")
}
