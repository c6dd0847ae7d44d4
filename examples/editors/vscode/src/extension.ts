// Starts `viable lsp` and adds to it what the editor leaves to extensions: a status bar entry, commands, and
// accepting a suggestion piece by piece so that the file parses after each piece.

import * as vscode from "vscode";
import { LanguageClient, LanguageClientOptions, ServerOptions, State } from "vscode-languageclient/node";
import { Suggestions } from "./suggestions";
import { Status, StatusBar } from "./status";

const SECTION = "viable";

let client: LanguageClient | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const suggestions = new Suggestions(() => client);
  const bar = new StatusBar();
  const command = (name: string, run: () => unknown) => vscode.commands.registerCommand(`${SECTION}.${name}`, run);
  context.subscriptions.push(
    bar,
    command("trigger", () => vscode.commands.executeCommand("editor.action.inlineSuggest.trigger")),
    command("acceptWord", () => suggestions.accept("word")),
    command("acceptLine", () => suggestions.accept("line")),
    command("toggle", toggle),
    command("restartServer", () => restart(suggestions, bar)),
    command("showLog", () => client?.outputChannel.show()),
  );
  await start(suggestions, bar);
}

export async function deactivate(): Promise<void> {
  await client?.stop();
}

async function start(suggestions: Suggestions, bar: StatusBar): Promise<void> {
  const settings = vscode.workspace.getConfiguration(SECTION);
  const [program, ...args] = settings.get<string[]>("command", ["viable", "lsp"]);
  const server: ServerOptions = { command: program, args };
  const options: LanguageClientOptions = {
    documentSelector: [{ language: "python" }],
    // Ghost text comes by inlineCompletion; the suggestion list stays with the other extensions.
    initializationOptions: { popup: false, status: true },
    synchronize: { configurationSection: SECTION },
    middleware: {
      provideInlineCompletionItems: async (document, position, context, token, next) => {
        const found = await next(document, position, context, token);
        if (!token.isCancellationRequested) {
          suggestions.remember(document, found); // the editor still shows what came before
        }
        return found;
      },
    },
  };
  const started = new LanguageClient(SECTION, "Viable", server, options);
  client = started;
  started.onNotification("viable/status", (status: Status) => bar.show(status));
  started.onDidChangeState(({ newState }) => {
    if (newState === State.Stopped && client === started) {
      bar.show({ state: "failed", message: "the server has stopped" });
    }
  });
  try {
    await started.start();
  } catch (error) {
    bar.show({ state: "failed", message: String(error) });
    void vscode.window.showErrorMessage(
      `Viable: ${program} did not start. \`pip install viable-code\` installs it; viable.command says where it is.`,
    );
  }
}

async function restart(suggestions: Suggestions, bar: StatusBar): Promise<void> {
  const stopped = client;
  client = undefined; // that it ends is no failure
  bar.show({ state: "loading", message: "starting again" });
  try {
    await stopped?.dispose();
  } catch {
    // It had not started, or has crashed: there is nothing left to stop.
  }
  await start(suggestions, bar);
}

async function toggle(): Promise<void> {
  const settings = vscode.workspace.getConfiguration(SECTION);
  await settings.update("enabled", !settings.get<boolean>("enabled", true), vscode.ConfigurationTarget.Global);
}
