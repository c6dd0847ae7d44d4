// Accepting a suggestion by word or by line. The editor's own commands stop anywhere; these ask the server for the
// next place after which the file parses.

import * as vscode from "vscode";
import { LanguageClient } from "vscode-languageclient/node";

type Found = vscode.InlineCompletionItem[] | vscode.InlineCompletionList | null | undefined;
export type Kind = "word" | "line";

const BUILT_IN: Record<Kind, string> = {
  word: "editor.action.inlineSuggest.acceptNextWord",
  line: "editor.action.inlineSuggest.acceptNextLine",
};

export class Suggestions {
  private uri = "";
  private items: vscode.InlineCompletionItem[] = [];
  private last: Promise<void> = Promise.resolve();

  constructor(private readonly client: () => LanguageClient | undefined) {}

  // Keep what the server offered last.
  remember(document: vscode.TextDocument, found: Found): void {
    this.uri = document.uri.toString();
    this.items = Array.isArray(found) ? found : (found?.items ?? []);
  }

  // Keys pressed in quick succession: each takes from what the one before it leaves.
  accept(kind: Kind): Promise<void> {
    this.last = this.last.then(() => this.take(kind)).catch(() => undefined);
    return this.last;
  }

  private async take(kind: Kind): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const client = this.client();
    const text = editor && this.left(editor);
    if (!editor || !client || !text) {
      await vscode.commands.executeCommand(BUILT_IN[kind]); // somebody else's suggestion
      return;
    }
    const { document, selection } = editor;
    const version = document.version;
    const stop = await client.sendRequest<{ length: number }>("viable/nextStop", {
      textDocument: client.code2ProtocolConverter.asTextDocumentIdentifier(document),
      position: client.code2ProtocolConverter.asPosition(selection.active),
      text,
      kind,
    });
    if (document.version === version) {
      await editor.edit((edit) => edit.insert(selection.active, text.slice(0, stop.length)));
    }
  }

  // What is left of the first suggestion that begins with the text between its place and the cursor.
  private left(editor: vscode.TextEditor): string | undefined {
    const { document, selection } = editor;
    if (document.uri.toString() !== this.uri) {
      return undefined;
    }
    for (const item of this.items) {
      const whole = typeof item.insertText === "string" ? item.insertText : item.insertText.value;
      const start = item.range?.start ?? selection.active;
      const typed = document.getText(new vscode.Range(start, selection.active));
      if (whole.startsWith(typed) && whole.length > typed.length) {
        return whole.slice(typed.length);
      }
    }
    return undefined;
  }
}
