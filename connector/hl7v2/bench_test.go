package hl7v2

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"testing"
)

func benchMessage(b *testing.B, name string) []byte {
	b.Helper()
	data, err := os.ReadFile("testdata/" + name + ".hl7")
	if err != nil {
		b.Fatal(err)
	}
	return bytes.ReplaceAll(data, []byte("\n"), []byte("\r"))
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"a01", "oru-laboratory"} {
		msg := benchMessage(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				if _, err := Parse(msg, ParseOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b)
		})
	}
}

func BenchmarkParseAndMap(b *testing.B) {
	o := trust.withDefaults()
	for _, name := range []string{"a01", "a28", "oru-laboratory", "mdm-text", "siu-s12"} {
		msg := benchMessage(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				if _, made := read(msg, o); made[0].Rejected != nil {
					b.Fatal(made[0].Rejected)
				}
			}
			perSecond(b)
		})
	}
}

func BenchmarkReadFrame(b *testing.B) {
	frame := []byte(framed(string(benchMessage(b, "a01"))))
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	r := bufio.NewReaderSize(io.Reader(&again{frame: frame}), 64<<10)
	for b.Loop() {
		if _, err := ReadFrame(r, 0); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b)
}

// again is a connection on which the same frame comes for ever.
type again struct {
	frame []byte
	at    int
}

func (a *again) Read(p []byte) (int, error) {
	n := copy(p, a.frame[a.at:])
	a.at = (a.at + n) % len(a.frame)
	return n, nil
}
