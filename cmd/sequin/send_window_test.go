package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// savedSends are the files that keep how far files are sent.
func (s *shell) savedSends() (paths []string) {
	paths, err := filepath.Glob(filepath.Join(s.home, ".local", "state", "sequin", "sends", "*.json"))
	require.NoError(s.t, err)
	return paths
}

// killSend sends a file and leaves what a kill would leave when so many batches are stored: the next is stored, but has no answer.
func (s *shell) killSend(file string, batches int) {
	s.t.Helper()
	slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, DelayAfter: time.Hour, Skip: batches})
	defer slow.Remove()
	wait := s.start("send", "orders", "--file", file)
	require.NoError(s.t, slow.Wait(s.t.Context(), 1))
	s.interrupt() // so that it reads no more
	path := s.savedSends()[0]
	text, err := os.ReadFile(path)
	require.NoError(s.t, err)
	s.interrupt()
	wait()
	require.NoError(s.t, os.WriteFile(path, text, 0o600))
}

// The server forgets the key of a batch 10 minutes after it has stored it.
func TestAResumeAfterTheKeyWindowSaysWhatMayBeStoredTwice(t *testing.T) {
	const warning = "up to 8000 messages may be stored twice, which were in flight when the last run ended: servers recognise"
	for late, doubles := range map[time.Duration]int{8 * time.Minute: 0, 11 * time.Minute: 1000} {
		inOrders(t, func(t *testing.T, s *shell) {
			file := s.inputFile(3000)
			s.killSend(file, 1)
			require.Len(t, s.stored(), 2000)
			time.Sleep(late)
			require.Zero(t, s.exec("send", "orders", "--file", file), s.errors)
			require.Contains(t, s.errors, "going on after line 1000")
			if doubles > 0 {
				require.Contains(t, s.errors, warning)
			} else {
				require.NotContains(t, s.errors, "twice")
			}
			require.Len(t, s.stored(), 3000+doubles)
		})
	}
}

// A run that comes before the position has moved does not make what the first one sent any younger.
func TestAResumeThatSendsNothingDoesNotHideWhatIsInDoubt(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(3000)
		s.killSend(file, 1)
		time.Sleep(8 * time.Minute)
		s.stopSend(file, sequintest.Fault{Op: sequintest.Send, Status: 409, Body: `{"summary":"full"}`}, 0)
		time.Sleep(8 * time.Minute)
		require.Zero(t, s.exec("send", "orders", "--file", file), s.errors)
		require.Contains(t, s.errors, "may be stored twice")
	})
}

func TestAServerWithoutKeysIsSaidToStoreTwice(t *testing.T) {
	inShell(t, sequintest.Config{Compat: server.Aug2024}, func(t *testing.T, s *shell) {
		require.Zero(t, s.exec("stream", "add", "orders"))
		file := filepath.Join(s.home, "in.ndjson")
		require.NoError(t, os.WriteFile(file, []byte(`{"key":"a","data":1}`+"\n"+`{"key":"b","data":2}`+"\n"), 0o600))
		s.killSend(file, 0)
		require.Zero(t, s.exec("send", "orders", "--file", file), s.errors)
		require.Contains(t, s.errors, "up to 8000 messages may be stored twice, which were in flight when the last run ended: this server does not")
	})
}

// What was in flight has ended, so that nothing is in doubt.
func TestARunThatWasStoppedInPeaceLeavesNothingInDoubt(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(9500)
		s.stopSend(file, sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Skip: 3}, 1)
		time.Sleep(time.Hour)
		require.Zero(t, s.exec("send", "orders", "--file", file))
		require.NotContains(t, s.errors, "twice")
		s.requireOnce(9500)
	})
}

func TestASendOfAFileThatIsBeingSentIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no locks there that the standard library knows")
	}
	inOrders(t, func(t *testing.T, s *shell) {
		require.Zero(t, s.exec("stream", "add", "prices"))
		file := s.inputFile(3000)
		slow := s.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second, Count: 1})
		wait := s.start("send", "orders", "--file", file)
		require.NoError(t, slow.Wait(t.Context(), 1))
		for _, flag := range []string{"--restart=false", "--restart"} {
			require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", file, flag))
			require.Equal(t, fmt.Sprintf("sequin: %s: another sequin send of this file to this stream is running as process %d: wait for it, or stop it first\n", file, os.Getpid()), s.errors)
		}
		require.Zero(t, s.exec("send", "prices", "--file", file), s.errors)
		code, _ := wait()
		require.Zero(t, code)
		s.requireOnce(3000)
		require.Zero(t, s.exec("send", "orders", "--file", file), s.errors)
	})
}

func TestAStateThatCannotBeReadIsToldWithWhatHelps(t *testing.T) {
	inOrders(t, func(t *testing.T, s *shell) {
		file := s.inputFile(3000)
		s.killSend(file, 1)
		require.NoError(t, os.WriteFile(s.savedSends()[0], nil, 0o600))
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", file))
		require.Contains(t, s.errors, "is damaged: ")
		require.Contains(t, s.errors, ": send it from the beginning with --restart\n")
		require.Zero(t, s.exec("send", "orders", "--file", file, "--restart"))
		require.NoError(t, os.RemoveAll(filepath.Join(s.home, ".local", "state")))
		require.NoError(t, os.WriteFile(filepath.Join(s.home, ".local", "state"), nil, 0o600))
		require.Equal(t, cli.ExitFailed, s.exec("send", "orders", "--file", file))
		require.Contains(t, s.errors, ": set $XDG_STATE_HOME to a directory that can be written\n")
		require.NotContains(t, s.errors, "--restart")
	})
}
