package hl7v2

import (
	"context"
	"crypto/sha256"
	"os"
	"time"
)

// A dialectFile is a feed's mapping file, read again while the feed runs: a mistake in it is told of, and the mapping that was in force stays.
type dialectFile struct {
	file  string // "" if the feed has none
	every time.Duration
	sum   [sha256.Size]byte
	told  string // what is wrong with it, told once
}

func newDialect(o Options) dialectFile {
	d := dialectFile{file: o.MappingFile, every: o.Reread}
	if data, err := os.ReadFile(d.file); d.file != "" && err == nil {
		d.sum = sha256.Sum256(data)
	}
	return d
}

// keepUp reads the file again until ctx ends.
func (f *Feed) keepUp(ctx context.Context) {
	tick := time.NewTicker(f.dialect.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.reread()
		}
	}
}

// reread looks at the file once. Messages that come after it are read by what it says.
func (f *Feed) reread() {
	d := &f.dialect
	data, err := os.ReadFile(d.file)
	sum := sha256.Sum256(data)
	if err == nil && sum == d.sum {
		d.told = ""
		return
	}
	var m *Mapping
	if err == nil {
		m, err = ParseMapping(data)
	}
	if err != nil {
		if err.Error() != d.told {
			d.told = err.Error()
			f.o.Logger.Error("a feed's mapping cannot be read; the one before stays in force", "source", f.o.Source, "file", d.file, "error", err)
		}
		return
	}
	o := f.given
	o.Mapping = m
	o = o.withDefaults()
	f.reads.Store(&o)
	d.sum, d.told = sum, ""
	f.o.Logger.Info("a feed's mapping has changed", "source", f.o.Source, "file", d.file, "mapping", m.Name)
}
