package main

import (
	"strings"

	"github.com/spf13/cobra"

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

The commands of the client talk to the server of --url or $SEQUIN_URL, or of the
context that "sequin context use" has chosen, or to ` + sequin.DefaultBaseURL + `.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 server not reachable.`,
		SilenceErrors: true, // run prints the error
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newServe(w), newCheck(w), newRepair(w), newBackup(w), newRestore(w), newStream(w), newConsumer(w),
		newSend(w), newReceive(w), newAck(w), newNack(w), newMessages(w), newPeek(w), newRedrive(w), newContext(w), newDoctor(w), newBench(w), newVersion(w))
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 100 "))
	root.SetHelpCommand(newHelp())
	hideFlagsInUseLine(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return cli.Usage("%w: see %q", err, cmd.CommandPath()+" --help")
	})
	return root
}

// hideFlagsInUseLine leaves it to the use line of each command to say which flags there are.
func hideFlagsInUseLine(cmd *cobra.Command) {
	for _, below := range cmd.Commands() {
		below.DisableFlagsInUseLine = true
		hideFlagsInUseLine(below)
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
