# A real Doorkeeper (Debian's ruby-doorkeeper) in a Rails application of one file, with a
# protected API in the shape of PayU's payment links, whose token service resembles it.
#
# Real: everything under /oauth, the tokens, their storage and their check on every API call.
# Ours: the API operations, GET /control/stats and POST /control/revoke, which revokes every token.
#
# Prints one line of JSON when ready, ends when its standard input does.
# ACCESS_TOKEN_TTL  seconds (300)
# REUSE=1           a token request gets the same token until it expires, with less and less expires_in
# REVOKE_PREV=1     a token request revokes the application's previous token with the same scopes

# Development mode would refuse Host names it does not know and answer errors with HTML.
ENV["RAILS_ENV"] = "production"

require "digest"
require "json"
require "logger"
require "rails"
require "active_record/railtie"
require "action_controller/railtie"
require "doorkeeper"
require "puma"
require "puma/server"

class Peer < Rails::Application
  config.api_only = true
  config.cache_classes = true
  config.eager_load = false
  config.secret_key_base = "unused: nothing here has a session"
  config.logger = Logger.new($stderr)
  config.log_level = :warn
  config.root = __dir__
  # Rails would look for config/database.yml. The database lives in memory, that is in one
  # connection: requests take turns at it, and it may never be closed for being idle.
  def config.database_configuration
    { Rails.env => { "adapter" => "sqlite3", "database" => ":memory:", "pool" => 1, "idle_timeout" => 0, "checkout_timeout" => 30 } }
  end
end

Doorkeeper.configure do
  orm :active_record
  api_only
  grant_flows %w[client_credentials]
  access_token_expires_in Integer(ENV.fetch("ACCESS_TOKEN_TTL", 300))
  default_generator_method :hex # 64 hex digits, as PayU's tokens have
  default_scopes :read_payment_links
  optional_scopes :create_payment_links, :update_payment_links
  reuse_access_token if ENV["REUSE"] == "1"
  revoke_previous_client_credentials_token if ENV["REVOKE_PREV"] == "1"
end

# Says what arrived, so that a test can compare bodies, but never repeats the token.
class PaymentLinksController < ActionController::API
  before_action(only: %i[index show]) { doorkeeper_authorize! :read_payment_links }
  before_action(only: :create) { doorkeeper_authorize! :create_payment_links }
  before_action(only: :update) { doorkeeper_authorize! :update_payment_links }

  def answer
    body = request.raw_post
    render json: { status: 0, message: action_name, errorCode: nil, result: {
      id: params[:id], scope: doorkeeper_token.scopes.to_s, client: doorkeeper_token.application.uid, method: request.method,
      path: request.get_header("REQUEST_URI"), bytes: body.bytesize, sha256: Digest::SHA256.hexdigest(body)
    } }
  end
  alias index answer
  alias show answer
  alias create answer
  alias update answer
end

# In front of Rails, so that it counts what Rails refuses too.
class Control
  def initialize(rails)
    @rails = rails
    @stats = Hash.new { |tables, name| tables[name] = Hash.new { |table, key| table[key] = Hash.new(0) } }
    @lock = Mutex.new
  end

  def call(env)
    case env.values_at("REQUEST_METHOD", "PATH_INFO")
    when %w[GET /control/stats] then json(@lock.synchronize { { token: @stats[:token], api: @stats[:api] }.to_json })
    when %w[POST /control/revoke] then json({ revoked: revoke }.to_json)
    else @rails.call(env).tap { |status, _| count(env, status) }
    end
  end

  private

  def revoke
    Rails.application.executor.wrap do
      Doorkeeper::AccessToken.where(revoked_at: nil).update_all(revoked_at: Time.now.utc)
    end
  end

  def count(env, status)
    case env["PATH_INFO"]
    when "/oauth/token"
      table = :token
      key = env.fetch("action_dispatch.request.parameters", {})["grant_type"] || "none"
    when %r{\A/payment-links}
      table = :api
      key = env["REQUEST_METHOD"]
    else return
    end
    @lock.synchronize { @stats[table][key][status] += 1 }
  end

  def json(text)
    [200, { "Content-Type" => "application/json" }, [text]]
  end
end

Peer.initialize!
Peer.routes.draw do
  use_doorkeeper
  resources :payment_links, path: "payment-links", only: %i[index show create update]
end

# The executor gives the one connection back at the end, as it does after every request.
application = Rails.application.executor.wrap do
  ActiveRecord::Schema.verbose = false
  ActiveRecord::Schema.define do
    create_table :oauth_applications do |t|
      t.string :name, :uid, :secret, :scopes, null: false, default: ""
      t.text :redirect_uri
      t.boolean :confidential, null: false, default: true
      t.timestamps
    end
    create_table :oauth_access_tokens do |t|
      t.references :resource_owner, :application
      t.string :token, null: false
      t.string :refresh_token, :scopes
      t.integer :expires_in
      t.datetime :revoked_at
      t.datetime :created_at, null: false
    end
  end

  # Doorkeeper takes Basic credentials as raw bytes, and this secret tells raw from form-encoded.
  Doorkeeper::Application.create!(name: "peer", secret: "d:o/o+r%k& =secret", redirect_uri: "urn:ietf:wg:oauth:2.0:oob")
end

server = Puma::Server.new(Control.new(Rails.application), Puma::Events.new($stderr, $stderr), min_threads: 4, max_threads: 4)
port = server.add_tcp_listener("127.0.0.1", 0).addr[1]
serving = server.run

origin = "http://127.0.0.1:#{port}"
puts JSON.generate(
  port: port, token_url: "#{origin}/oauth/token", revoke_url: "#{origin}/oauth/revoke", api_url: "#{origin}/payment-links",
  control_url: "#{origin}/control", client_id: application.uid, client_secret: application.secret
)
$stdout.flush

# No test may leave a server behind, however it ends.
Thread.new { $stdin.read; exit! 0 }
serving.join
