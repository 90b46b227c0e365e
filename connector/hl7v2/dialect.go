package hl7v2

import (
	"context"
	"crypto/sha256"
	"log/slog"
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
	if o := f.dialect.changed(f.given, f.o.Logger); o != nil {
		f.reads.Store(o)
	}
}

// changed looks at the file once: the options with the dialect as it now is, nil if it is as it was or there is a mistake in it.
func (d *dialectFile) changed(given Options, log *slog.Logger) *Options {
	data, err := os.ReadFile(d.file)
	sum := sha256.Sum256(data)
	if err == nil && sum == d.sum {
		d.told = ""
		return nil
	}
	var m *Mapping
	if err == nil {
		m, err = ParseMapping(data)
	}
	if err != nil {
		if err.Error() != d.told {
			d.told = err.Error()
			log.Error("a feed's mapping cannot be read; the one before stays in force", "source", given.Source, "file", d.file, "error", err)
		}
		return nil
	}
	d.sum, d.told = sum, ""
	given.Mapping = m
	o := given.withDefaults()
	log.Info("a feed's mapping has changed", "source", given.Source, "file", d.file, "mapping", m.Name)
	return &o
}
