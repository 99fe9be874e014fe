package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// newRoot returns the command sequin with its subcommands.
func newRoot(w world) *cobra.Command {
	root := &cobra.Command{
		Use:   "sequin",
		Short: "A message stream server in one program",
		Long: `Sequin runs a streams server that keeps its messages in a directory, and is a
client of such servers.

A stream keeps messages, each with a key. A consumer of a stream delivers them:
who receives a message must ack it within the ack wait of the consumer, or it is
delivered again.

The commands of the client talk to the server of --url or $SEQUIN_URL, or of the
context that "sequin context use" has chosen, or to ` + sequin.DefaultBaseURL + `.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 server not reachable.`,
		Example: `  sequin serve
  sequin stream add orders
  sequin consumer add orders billing
  sequin send orders orders.1 '{"qty":4}'
  sequin receive orders billing --ack`,
		SilenceErrors: true, // run prints the error
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addGroup(root, "Servers and their data:", newServe(w), newBackup(w), newRestore(w), newCheck(w), newRepair(w), newCopyStreams(w), newMigrate(w))
	addGroup(root, "Messages:", newSend(w), newReceive(w), newAck(w), newNack(w), newMessages(w), newPeek(w), newRedrive(w))
	addGroup(root, "Streams and consumers:", newStream(w), newConsumer(w))
	addGroup(root, "The connection to a server:", newContext(w), newDoctor(w), newObserve(w), newBench(w))
	root.AddCommand(newVersion(w))
	root.SetUsageTemplate(usageTemplate(root.UsageTemplate()))
	root.SetHelpCommand(newHelp())
	format(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var invalid *pflag.InvalidValueError
		if errors.As(err, &invalid) {
			err = fmt.Errorf("invalid --%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), cli.InWords(invalid.GetFlag(), invalid.Unwrap()))
		}
		return cli.Usage("%w: see %q", err, cmd.CommandPath()+" --help")
	})
	return root
}

// The help lists commands in the order in which they are added.
func init() { cobra.EnableCommandSorting = false }

// addGroup adds commands below a title.
func addGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, cmd := range commands {
		cmd.GroupID = title
	}
	root.AddCommand(commands...)
}

// usageTemplate changes the template of cobra: lines are wrapped, and a command that only has others below it is shown with one
// of them.
func usageTemplate(of string) string {
	of = strings.ReplaceAll(of, ".FlagUsages ", ".FlagUsagesWrapped 100 ")
	return strings.Replace(of, "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1)
}

// format leaves it to the use line of each command to say which flags there are, and lists the flags in the order in which they
// are added.
func format(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	for _, below := range cmd.Commands() {
		below.DisableFlagsInUseLine = true
		format(below)
	}
}

// group returns a command that has subcommands only.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// noCommand refuses the arguments of a command that has subcommands only. They are names of commands that do not exist.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = ", did you mean " + strings.Join(near, " or ") + "?"
	}
	return cli.Usage("there is no command %q%s: see %q", args[0], hint, cmd.CommandPath()+" --help")
}

// newHelp is the help command. Unlike cobra's own, it fails for a command that does not exist.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Print the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return cli.Usage("there is no command %q: see %q", strings.Join(args, " "), cmd.Root().CommandPath()+" --help")
			}
			return found.Help()
		},
	}
}

// arguments checks the number of arguments of a command. The usage error shows what the command takes.
func arguments(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		if len(args) > n {
			return cli.Usage("unexpected argument %q: usage is %q", args[n], cmd.UseLine())
		}
		return cli.Usage("an argument is missing: usage is %q", cmd.UseLine())
	}
}
