# A service with Ruby's net/http: the three exchanges of caller.py on one connection.
#
#     ruby caller.rb TARGET_URL
#
# The proxy stands in http_proxy, which net/http reads for https:// URLs, too; the authority in SSL_CERT_FILE.

require 'json'
require 'net/http'
require 'stringio'

uri = URI(ARGV[0])
json = Net::HTTP::Post.new(uri, 'Content-Type' => 'application/json')
json.body = { note: 'n' * 2000 }.to_json
upload = Net::HTTP::Post.new(uri, 'Content-Type' => 'application/octet-stream', 'Transfer-Encoding' => 'chunked')
upload.body_stream = StringIO.new('x' * 300_000)

Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == 'https', read_timeout: 30) do |service|
  [Net::HTTP::Get.new(uri), json, upload].each do |request|
    response = service.request(request)
    puts({ status: response.code.to_i, body: response.body }.to_json)
  end
end
