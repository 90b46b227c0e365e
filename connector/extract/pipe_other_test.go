//go:build !unix

package extract

import "errors"

func mkfifo(string) error { return errors.ErrUnsupported }
