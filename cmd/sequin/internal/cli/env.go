package cli

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// EnvName returns the environment variable of a flag: SEQUIN_LOG_LEVEL for log-level.
func EnvName(flag string) string {
	return "SEQUIN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// DocumentEnvironment adds the variable of each flag to its usage text.
func DocumentEnvironment(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != helpFlag {
			f.Usage += " [$" + EnvName(f.Name) + "]"
		}
	})
}

// helpFlag has no variable.
const helpFlag = "help"

// Source says where the value of a flag comes from.
type Source uint8

const (
	Default     Source = iota
	Environment        // a variable that is set and not empty
	CommandLine
)

// Sources are the sources of the flags, by name.
type Sources map[string]Source

// ReadEnvironment sets each flag that the command line has not set from its variable, and returns where each value comes
// from. An empty variable counts as one that is not set. An invalid value is a usage error that names the variable, and so is
// an empty one on the command line: that of --postgres "$URL" without the variable must not start a server without Postgres.
func ReadEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) (Sources, error) {
	sources := Sources{}
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == helpFlag {
			return
		}
		if f.Changed {
			sources[f.Name] = CommandLine
			if f.Value.String() == "" && failed == nil {
				failed = Usage("--%s is empty: give it a value, or leave it out", f.Name)
			}
			return
		}
		text, _ := lookup(EnvName(f.Name))
		if text == "" {
			return
		}
		sources[f.Name] = Environment
		if err := f.Value.Set(text); err != nil && failed == nil {
			failed = Usage("invalid value %q in $%s: %v", text, EnvName(f.Name), InWords(f, err))
		}
	})
	return sources, failed
}

// InWords returns an error of a flag's value in words for people: those of the package strconv name its functions.
func InWords(f *pflag.Flag, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("the number is too large")
	}
	switch f.Value.Type() {
	case "int", "int64":
		return errors.New("want a whole number")
	case "float64":
		return errors.New("want a number")
	case "duration":
		return errors.New("want a time such as 500ms, 30s or 5m")
	case "bool":
		return errors.New("want true or false")
	}
	return err
}

// Choose decides between two flags of which only one may be set. A flag on the command line wins over the other one's
// variable. It returns a usage error when both come from the same source, and else whether the first and the second count.
func (s Sources) Choose(a, b string) (useA, useB bool, err error) {
	switch {
	case s[a] == Default || s[b] == Default:
		return s[a] != Default, s[b] != Default, nil
	case s[a] == s[b]:
		return false, false, Usage("--%s and --%s exclude each other: give one of them", a, b)
	}
	return s[a] > s[b], s[b] > s[a], nil
}
