//go:build !linux && !darwin && !windows

package vfs

import "math"

// space does not know: a write says when the disk is full.
func space(string) (free, total int64, err error) { return math.MaxInt64, math.MaxInt64, nil }
