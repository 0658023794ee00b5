// A service in Go with net/http: the three exchanges of caller.py.
//
//	caller TARGET_URL
//
// The proxy stands in HTTP_PROXY and HTTPS_PROXY, the authority in SSL_CERT_FILE.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	url := os.Args[1]
	note, _ := json.Marshal(map[string]string{"note": strings.Repeat("n", 2000)})
	// Nothing but a reader: net/http does not know its length, and sends chunks.
	upload := io.MultiReader(bytes.NewReader(bytes.Repeat([]byte("x"), 300_000)))
	client := &http.Client{Timeout: 30 * time.Second}
	for _, request := range []struct {
		method string
		body   io.Reader
	}{{"GET", nil}, {"POST", bytes.NewReader(note)}, {"POST", upload}} {
		sent, err := http.NewRequest(request.method, url, request.body)
		if err != nil {
			log.Fatal(err)
		}
		response, err := client.Do(sent)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			log.Fatal(err)
		}
		response.Body.Close()
		json.NewEncoder(os.Stdout).Encode(map[string]any{
			"status": response.StatusCode, "body": string(body), "version": response.Proto,
		})
	}
}
