package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
)

func hl7Write() *cobra.Command {
	var feed feedFlag
	c := &cobra.Command{
		Use:   "write --region FILE --feed ID FILE…",
		Short: "Show the messages that say in HL7 v2 what FHIR resources say: a Patient, or a Bundle of one Patient and what is told of them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			o, _, _, err := feed.options(c)
			if err != nil {
				return err
			}
			for _, file := range files {
				msgs, err := messagesOf(file, o)
				if err != nil {
					return err
				}
				for _, m := range msgs {
					fmt.Fprintf(c.OutOrStdout(), "%s\n", bytes.ReplaceAll(m, []byte("\r"), []byte("\n")))
				}
			}
			return nil
		},
	}
	feed.on(c)
	return c
}

func hl7Send() *cobra.Command {
	var feed feedFlag
	c := &cobra.Command{
		Use:   "send --region FILE --feed ID FILE…",
		Short: "Send to a feed's system (send-to: in its options) what is in .hl7 files, or what FHIR resources in .json files say",
		Long: "Each message is sent until it is acknowledged or its attempts are used up (send-attempts, 3 if not set), under the control id that\n" +
			"the same content always has: sending a file twice is safe. Stops at the first message that is refused.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			o, _, folder, err := feed.options(c)
			if err != nil {
				return err
			}
			if o.Outward.Address == "" {
				return usagef("the region file does not say where %s is told of anything: give it options: {send-to: mllps://host:port}", feed.id)
			}
			if o.Wire.Folder = folder; o.Outward.Attempts == 0 {
				o.Outward.Attempts = 3
			}
			b, err := hl7v2.NewOutbound(o)
			if err != nil {
				return err
			}
			defer b.Close()
			for _, file := range files {
				msgs, err := messagesOf(file, o)
				if err != nil {
					return err
				}
				for _, m := range msgs {
					ack, err := b.SendMessage(c.Context(), m)
					if err != nil {
						return fmt.Errorf("%s: %w", file, err)
					}
					fmt.Fprintf(c.OutOrStdout(), "%s %s\n", ack.Control, ack.Code)
				}
			}
			return nil
		},
	}
	feed.on(c)
	return c
}

// messagesOf are the messages in a file, or those that its resource is told by.
func messagesOf(file string, o hl7v2.Options) ([][]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(file, ".json") {
		var out [][]byte
		for m := range hl7v2.Split(data) {
			out = append(out, m)
		}
		return out, nil
	}
	r, err := fhir.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	out, err := hl7v2.Write(r, o, o.Outward.Letterhead)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}
