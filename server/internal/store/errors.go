package store

import (
	"errors"
	"fmt"
)

// The errors that a store returns for what a request asks.
var (
	ErrNoStream       = errors.New("no such stream")
	ErrNoConsumer     = errors.New("no such consumer")
	ErrNoMessage      = errors.New("no such message")
	ErrNameTaken      = errors.New("name is taken")
	ErrTable          = errors.New("the database cannot make a table of that name")
	ErrAmbiguous      = errors.New("name is used by consumers of several streams")
	ErrDoubledKey     = errors.New("a key occurs twice in one batch")
	ErrFull           = errors.New("stream is full")
	ErrOtherBody      = errors.New("key was used for a send with another body")
	ErrTooManyWaiting = errors.New("too many receives are waiting")
)

// The errors that a store returns for its own state. They may be wrapped in the cause.
var (
	ErrClosed   = errors.New("store is closed")
	ErrUnknown  = errors.New("it is not known whether the change took place")
	ErrFailed   = errors.New("store has failed")
	ErrDiskFull = errors.New("no room is left for messages") // receives and settles still work
	ErrReadOnly = errors.New("store cannot be written")
	ErrDamaged  = errors.New("stored data is damaged")    // a *DamagedError
	ErrLocked   = errors.New("store is in use")           // a *LockedError, of opening only
	ErrVersion  = errors.New("store has another version") // a *VersionError, of opening only
)

// DamagedError says where stored data is not what was written. errors.Is finds ErrDamaged in it.
type DamagedError struct {
	File     string
	Offset   int64  // of the damage in the file, in bytes
	Position uint64 // of the damaged record in the log
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%v: %s at offset %d (position %d)", ErrDamaged, e.File, e.Offset, e.Position)
}

// Is reports whether target is ErrDamaged.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// LockedError says which process uses a store. errors.Is finds ErrLocked in it.
type LockedError struct {
	PID  int // 0 when it is not known
	Host string
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return ErrLocked.Error() + " by another process"
	}
	return fmt.Sprintf("%v by process %d on %s", ErrLocked, e.PID, e.Host)
}

// Is reports whether target is ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// VersionError says which version a store has. errors.Is finds ErrVersion in it.
type VersionError struct {
	Found int // the version of the store
	Known int // the version that this program reads and writes
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%v: it has %d, this program knows %d", ErrVersion, e.Found, e.Known)
}

// Is reports whether target is ErrVersion.
func (e *VersionError) Is(target error) bool { return target == ErrVersion }
