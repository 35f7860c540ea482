package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
)

// versionDocument is the answer of nanoos version.
type versionDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "Version"
	Version    string `json:"version"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program.", Args: noArgs,
		Example: `nanoos version
nanoos version -o json
nanoos status   # the version of the server`,
		RunE: func(*cobra.Command, []string) error {
			doc := versionDocument{api.Version, "Version", version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if a.data() {
				return show(a, listing[versionDocument]{doc: doc, rows: []versionDocument{doc}, id: func(d *versionDocument) string { return d.Version },
					columns: []column[versionDocument]{{name: "version", cell: func(_ *cells, d *versionDocument) string { return d.Version }}}})
			}
			_, err := fmt.Fprintf(a.io.out, "nanoos %s (%s, %s)\n", doc.Version, doc.Go, doc.Platform)
			return err
		},
	}
}
